"""Make validators/releasegate/tools/capabilities.json from OPA's own capabilities of the version conftest links.

Usage: rego_capabilities.py <opa source>/capabilities/v1.21.1.json. An allow-list: a function OPA adds later is refused
until somebody puts it here. Left out are whatever reaches the network, the environment, files or the clock, what is
random, signs or parses keys, parses Rego, and what OPA itself calls deprecated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ALLOWED = """
abs assign and minus or mul plus div rem round ceil floor max min sum product sort count concat eq equal neq gt gte lt lte
array.concat array.flatten array.reverse array.slice
base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad
bits.and bits.lsh bits.negate bits.or bits.rsh bits.xor
contains endswith startswith format_int indexof indexof_n lower upper replace split sprintf substring
strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse strings.split_n
trim trim_left trim_prefix trim_right trim_space trim_suffix
crypto.hmac.equal crypto.hmac.sha256 crypto.hmac.sha512 crypto.md5 crypto.sha1 crypto.sha256
glob.match glob.quote_meta graph.reachable graph.reachable_paths hex.decode hex.encode
internal.member_2 internal.member_3 internal.print internal.test_case intersection union print
is_array is_boolean is_null is_number is_object is_set is_string type_name to_number
json.filter json.is_valid json.marshal json.marshal_with_options json.patch json.remove json.unmarshal
net.cidr_contains net.cidr_contains_matches net.cidr_intersects net.cidr_is_valid net.cidr_merge net.cidr_overlap
numbers.range numbers.range_step
object.filter object.get object.keys object.remove object.subset object.union object.union_n
regex.find_all_string_submatch_n regex.find_n regex.globs_match regex.is_valid regex.match regex.replace regex.split
regex.template_match rego.metadata.chain rego.metadata.rule semver.compare semver.is_valid
units.parse units.parse_bytes uri.is_valid uri.parse urlquery.decode urlquery.decode_object urlquery.encode
urlquery.encode_object uuid.parse walk yaml.is_valid yaml.marshal yaml.unmarshal
""".split()  # noqa: SIM905 - a list of words
# Template strings can hold Rego, rule heads and all; the reader of policies does not look inside them.
FEATURES = ("keywords_in_refs", "rego_v1")


def main() -> None:
    """Write the allow-list; an allowed name that OPA does not have is an error."""
    whole = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    builtins = {one["name"]: one for one in whole["builtins"]}
    unknown = [name for name in ALLOWED if name not in builtins]
    if unknown:
        sys.exit(f"OPA has no {', '.join(unknown)}")
    made = {
        "builtins": [builtins[name] for name in sorted(ALLOWED)],
        "features": [name for name in whole["features"] if name in FEATURES],
        "future_keywords": whole["future_keywords"],
        "allow_net": [],
    }
    target = Path(__file__).resolve().parents[1] / "validators" / "releasegate" / "tools" / "capabilities.json"
    rows = ",\n".join(json.dumps(one, separators=(",", ":")) for one in made.pop("builtins"))
    rest = json.dumps(made, indent=1)[2:]
    target.write_text('{\n "builtins": [\n' + rows + "\n ],\n" + rest + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
