"""A rendered value -> the line a person would edit, or the template when that is not certain.

How: the scalars of the release's inputs that may feed a value are marked with a suffix of their own, the release is
rendered once more, and the marks that turn up in the values name the scalars that feed them (marks.py). What is fed by
values that a parent's Application hands on is looked for in the parent's inputs in the same way, and so on up the chain
of app-of-apps. What no input feeds is looked for in the template: each line that may write it gets a comment of its
own (template_lines.py).
A wrong line is worse than none: a mark that a condition of the templates may see has to turn up alone as well, and where
marking changes what is rendered, or nothing turns up, the template is named.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from releasegate import yamlio
from releasegate.model import (
    Application,
    Finding,
    HelmSource,
    Manifest,
    Place,
    Release,
    Rendered,
    Unrendered,
    Verdict,
)
from releasegate.sources import marks, template_lines
from releasegate.sources.marks import Input, Leaf, Target

if TYPE_CHECKING:  # `releasegate lint` needs none of it
    from releasegate.discover.files import Files

MAX_LEVELS = 8  # of app-of-apps, as discovery follows them
MAX_ROUNDS = 6  # renders of one release that confirm what one render found
AT_A_TIME = 64  # marked renders under way
MAX_FILES = 2000  # of one chart that templates may load
MAX_FILE = 64 << 10
_DATA = (".yaml", ".yml", ".json")

Probe = Callable[[Release, Mapping[str, str], frozenset[str]], Callable[[], Rendered | Unrendered]]


def _no_probe(_release: Release, _texts: Mapping[str, str], _templates: frozenset[str]) -> Callable[[], Unrendered]:
    raise AssertionError("nothing was rendered, so no source is looked for")


class Locator:
    """Finds source lines for the findings of one run; each file is read and positioned once."""

    def __init__(
        self,
        files: Files | None,
        probe: Probe = _no_probe,
        rendered: Callable[[str], Rendered | Unrendered | None] = lambda _release: None,
    ) -> None:
        """`files` is the judged tree. `rendered` gives the render of a release by its id.

        `probe(release, texts, templates)` begins a render with other texts (keys as for `Renderer.substituted`) and
        returns what waits for it; only objects of these templates are looked at.
        """
        self._files = files
        self._probe = probe
        self._rendered = functools.cache(rendered)
        self._scalars: dict[str, list[yamlio.Scalar]] = {}
        self._loads: dict[str, bool] = {}
        self._conditions: dict[str, marks.Conditions] = {}
        self._written: dict[template_lines.Name, Place | None] = {}
        self.probes = 0

    def locate(self, rendered: Rendered, findings: Sequence[Finding]) -> list[Finding]:
        """Return the findings of one release, each with the best place that is certain."""
        return self.locate_all([(rendered, finding) for finding in findings])

    def locate_all(self, findings: Sequence[tuple[Rendered, Finding]]) -> list[Finding]:
        """Return the findings, each with the best place that is certain: line, file or template, in this order.

        Renders: about one per release, and per level of app-of-apps a handful for each parent, whatever its children.
        """
        placed = [_in_file(finding) for _, finding in findings]
        targets: dict[tuple[object, ...], tuple[Rendered, Target]] = {}
        wanted: dict[int, tuple[object, ...]] = {}
        for index, finding in enumerate(placed):
            if finding.place is None and finding.manifest is not None and finding.manifest.template is not None:
                text = marks.text_of(finding.value)
                key: tuple[object, ...] = (
                    id(finding.manifest),
                    finding.pointer,
                    text,
                    finding.about_key,
                    finding.text_line,
                )
                target = Target(
                    finding.manifest,
                    finding.pointer,
                    text,
                    about_key=finding.about_key,
                    text_line=finding.text_line,
                )
                targets.setdefault(key, (findings[index][0], target))
                wanted[index] = key
        places = dict(zip(targets, self._places(list(targets.values())), strict=True))
        for index, key in wanted.items():
            placed[index] = replace(placed[index], place=places[key])
        return placed

    def _places(self, targets: Sequence[tuple[Rendered, Target]], level: int = 0) -> list[Place | None]:
        """Values first, then what hands them on, then templates; at last the template without a line."""
        places: list[Place | None] = [None] * len(targets)
        above: dict[int, tuple[object, ...]] = {}
        asked: dict[tuple[object, ...], tuple[Rendered, Target]] = {}
        for index, leaf in enumerate(self._fed(targets)):
            rendered, target = targets[index]
            if leaf is None or (target.about_key and leaf.pointer.rpartition("/")[2] != target.last_key):
                continue  # a key at fault stands in the values only where they hand on that very key
            places[index] = self._place(rendered.release, leaf)
            if places[index] is not None or level >= MAX_LEVELS:
                continue
            parent = self._handed_on(rendered.release, leaf, target)
            if parent is None:
                handed_on = rendered.release.application
                if handed_on is not None and handed_on.template is not None:
                    places[index] = Place(path=handed_on.template)
            else:
                key: tuple[object, ...] = (
                    id(parent[1].manifest),
                    parent[1].pointer,
                    parent[1].inner,
                    parent[1].about_key,
                )
                asked.setdefault(key, parent)
                above[index] = key
        if asked:
            found = dict(zip(asked, self._places(list(asked.values()), level + 1), strict=True))
            for index, key in above.items():
                places[index] = found[key]
        rest = [index for index, place in enumerate(places) if place is None]
        for index, place in zip(rest, self._in_templates([targets[index] for index in rest]), strict=True):
            template = targets[index][1].manifest.template
            places[index] = place or (Place(path=template) if template is not None else None)
        return places

    # --- values: a mark on each scalar ------------------------------------------------------------------------------

    def _fed(self, targets: Sequence[tuple[Rendered, Target]]) -> list[Leaf | None]:
        """The scalar that feeds the end of each target."""
        looks: dict[str, _Look] = {}
        for rendered, target in targets:
            if target.pointer is not None and target.text:
                looks.setdefault(rendered.release.id, _Look(rendered)).targets.append(target)
        open_ = list(looks.values())
        for start in range(0, len(open_), AT_A_TIME):
            self._look(open_[start : start + AT_A_TIME])
        found = {target: look.numbers[number][0] for look in open_ for target, number in look.found.items()}
        return [found.get(target) for _, target in targets]

    def _look(self, looks: Sequence[_Look]) -> None:
        """Marks that no condition of the templates can see, all at once; then those that one may, each confirmed alone."""
        for look in looks:
            look.numbers = marks.numbered(self._leaves(look.rendered.release, look.targets))
            look.seen = self._seen(look)
        plain = [(look, set(look.numbers) - look.seen) for look in looks]
        failed = [look for look, again in self._mark(plain) if not again]
        # A mark that broke a template took all others with it: a number that is no number any more.
        self._mark((look, look.strings - look.seen) for look in failed)
        # A mark in a name by which something else is looked up (`.Files.Get`, `index`) hid what was looked for.
        fewer = [(look, look.open - look.seen) for look in looks]
        self._mark((look, numbers) for look, numbers in fewer if numbers < set(look.numbers) - look.seen)
        open_ = [(look, look.open & look.seen) for look in looks]
        self._mark(open_)
        self._confirm([(look, numbers) for look, numbers in open_ if len(numbers) > 1])

    def _mark(self, wanted: Iterable[tuple[_Look, set[int]]]) -> list[tuple[_Look, bool]]:
        """Render with these marks, all releases side by side; note what arrived, and tell which rendered."""
        begun = [(look, numbers, self._begin(look, numbers)) for look, numbers in wanted if numbers]
        told = []
        for look, _, answer in begun:
            again = answer()
            told.append((look, isinstance(again, Rendered)))
            if isinstance(again, Rendered):
                arrived = look.read(again)
                # Nothing, where a tag should be, stands behind what arrived before.
                look.found |= {
                    target: one
                    for target, one in arrived.items()
                    if target not in look.found or not look.numbers[one][0].text
                }
        return told

    def _confirm(self, wanted: Sequence[tuple[_Look, set[int]]]) -> None:
        """What arrived among marks that change conditions has to arrive alone: then an edit of it is what changed."""
        begun = []
        for look, numbers in wanted:
            arrived = sorted(set(look.found.values()) & numbers)
            look.found = {
                target: number
                for target, number in look.found.items()
                if number not in numbers or number in arrived[:MAX_ROUNDS]
            }
            begun += [(look, number, self._begin(look, {number})) for number in arrived[:MAX_ROUNDS]]
        for look, number, answer in begun:
            again = answer()
            alone = look.read(again) if isinstance(again, Rendered) else {}
            look.found = {
                target: one for target, one in look.found.items() if one != number or alone.get(target) == number
            }

    def _seen(self, look: _Look) -> set[int]:
        """The marks that a condition of the release's templates may see."""
        charts = [one.chart for one in look.rendered.release.sources if isinstance(one, HelmSource)]
        conditions = [self._conditions_of(chart) for chart in charts]
        return {
            number for number, members in look.numbers.items() if any(one.may_see(members[0]) for one in conditions)
        }

    def _conditions_of(self, chart: str) -> marks.Conditions:
        if chart not in self._conditions:
            below = self._files.below(chart) if self._files is not None else []
            self._conditions[chart] = marks.Conditions(
                self._read(path) or "" for path in below if "/templates/" in f"/{path}"
            )
        return self._conditions[chart]

    def _begin(self, look: _Look, numbers: set[int]) -> Callable[[], Rendered | Unrendered]:
        self.probes += 1
        texts = marks.marked({number: look.numbers[number] for number in sorted(numbers)})
        return self._probe(look.rendered.release, texts, look.templates)

    def _leaves(self, release: Release, targets: Sequence[Target]) -> list[Leaf]:
        ends = marks.Ends(target.text for target in targets)
        if not ends:
            return []
        return marks.leaves([(one, self._scalars_of(one)) for one in self._inputs(release)], ends)

    def _inputs(self, release: Release) -> Iterator[Input]:
        """Everything a release is rendered from and a person may edit."""
        from releasegate.render import inline_key, join, parameter_key  # noqa: PLC0415 - as Files

        for index, source in enumerate(release.sources):
            if not isinstance(source, HelmSource):
                continue
            if source.revision is None:  # files of another commit are not to be edited here
                own = join(source.chart, "values.yaml")
                named = [file.path for file in source.values_files]
                passed = list(dict.fromkeys([own, *named] if own not in named else named))
                for layer, path in enumerate(passed):
                    yield from self._file(path, index, layer)
                for path in self._loaded(source.chart, passed):
                    yield from self._file(path, index, None)
                yield from self._file(join(source.chart, "Chart.yaml"), index, None, only="/appVersion")
            layer = len(source.values_files) + 1
            if source.inline is not None:
                yield Input(inline_key(index), source.inline.text, index, layer, inline=source.inline)
            for one in source.parameters:
                yield Input(parameter_key(index, one), one.value, index, layer + 1, parameter=one)

    def _file(self, path: str, index: int, layer: int | None, only: str | None = None) -> Iterator[Input]:
        text = self._read(path)
        if text is not None:
            yield Input(path, text, index, layer, only=only)

    def _loaded(self, chart: str, passed: Sequence[str]) -> Iterator[str]:
        """Files of the chart that its templates may load through .Files, and the values of its subcharts."""
        from releasegate.render import join  # noqa: PLC0415 - as Files

        if self._files is None:
            return
        below = self._files.below(chart)
        if chart not in self._loads:
            self._loads[chart] = any(
                "/templates/" in f"/{path}" and self._files.mentions(path, _FILES) for path in below
            )
        inside = len(join(chart, ""))
        seen = 0
        for path in below:
            parts = path[inside:].split("/")
            if path in passed or "templates" in parts[:-1] or parts[-1] == "Chart.yaml":
                continue
            subchart = parts[0] == "charts" and len(parts) > 2 and parts[-1] == "values.yaml"  # noqa: PLR2004
            loaded = self._loads[chart] and parts[0] != "charts" and _may_be_data(parts[-1])
            if (subchart or loaded) and seen < MAX_FILES:
                seen += 1
                yield path

    def _scalars_of(self, one: Input) -> list[yamlio.Scalar]:
        if one.parameter is not None:
            return []
        if one.inline is not None:
            return _scalars(one.text)
        if one.layer is None and len(one.text) > MAX_FILE:
            return []
        if one.key not in self._scalars:
            self._scalars[one.key] = _scalars(one.text)
        return self._scalars[one.key]

    def _read(self, path: str) -> str | None:
        from releasegate.discover.files import Unreadable  # noqa: PLC0415 - as Files

        try:
            return self._files.text(path) if self._files is not None else None
        except Unreadable:
            return None

    # --- where a scalar is written ----------------------------------------------------------------------------------

    def _place(self, release: Release, leaf: Leaf) -> Place | None:
        """The scalar's place when it is written in a file; None when a parent handed it on."""
        if leaf.input.path is not None and leaf.scalar is not None:
            return Place(path=leaf.input.path, line=leaf.scalar.mark.line, column=leaf.scalar.mark.column)
        application = release.application
        if leaf.input.parameter is not None and leaf.input.parameter.place is not None:
            return leaf.input.parameter.place
        if application is None or application.place is None:
            return None
        inline = leaf.input.inline
        if inline is None or inline.place is None or inline.place.line is None or leaf.scalar is None:
            return Place(path=application.place.path)
        line = inline.place.line + leaf.scalar.mark.line - 1
        lines = (self._read(inline.place.path) or "").split("\n")
        if line > len(lines) or leaf.scalar.raw.split("\n")[0] not in lines[line - 1]:
            return Place(path=inline.place.path)
        return Place(path=inline.place.path, line=line)

    def _handed_on(self, release: Release, leaf: Leaf, below: Target) -> tuple[Rendered, Target] | None:
        """The scalar as a part of the Application that the parent rendered."""
        application = release.application
        if application is None or application.parent is None:
            return None
        parent = self._rendered(application.parent)
        if not isinstance(parent, Rendered):
            return None
        manifest = next((one for one in parent.manifests if one.body is application.body), None)
        pointers = list(_pointers(application, leaf))
        if manifest is None or manifest.template is None or len(pointers) != 1:
            return None
        pointer, inner = pointers[0]
        scalar = leaf.scalar if inner is not None else None
        return parent, Target(manifest, pointer, leaf.text, inner=inner, scalar=scalar, about_key=below.about_key)

    # --- templates: a comment on each line ----------------------------------------------------------------------------

    def _in_templates(self, targets: Sequence[tuple[Rendered, Target]]) -> list[Place | None]:
        """The template line that writes the key: literal text keeps its key and its indentation in the render."""
        places: list[Place | None] = [None] * len(targets)
        by_release: dict[str, list[int]] = defaultdict(list)
        for index, (rendered, _) in enumerate(targets):
            by_release[rendered.release.id].append(index)
        for members in by_release.values():
            rendered = targets[members[0]][0]
            if any(isinstance(one, HelmSource) and one.revision is not None for one in rendered.release.sources):
                continue
            found = self._written_in(rendered, [targets[index][1] for index in members])
            for index, place in zip(members, found, strict=True):
                places[index] = place
        return places

    def _written_in(self, rendered: Rendered, targets: Sequence[Target]) -> list[Place | None]:
        wanted = [template_lines.written(target) for target in targets]
        candidates = [
            template_lines.candidates(target.manifest.template, self._read(target.manifest.template or ""), key)
            for target, key in zip(targets, wanted, strict=True)
        ]
        names = [
            template_lines.name(target, key, lines, self._read(target.manifest.template or ""))
            for target, key, lines in zip(targets, wanted, candidates, strict=True)
        ]
        places = [None if name is None else self._written.get(name) for name in names]
        rest = [
            index
            for index, lines in enumerate(candidates)
            if lines and (names[index] is None or names[index] not in self._written)
        ]
        if not rest:
            return places
        lines = list(dict.fromkeys(line for index in rest for line in candidates[index]))
        self.probes += 1
        texts = template_lines.commented(lines, lambda path: self._read(path) or "")
        again = self._probe(rendered.release, texts, _templates(targets))()
        after = again.manifests if isinstance(again, Rendered) else ()
        twins = marks.twins(_of(rendered, _templates(targets)), after)
        for index in rest:
            place = template_lines.read(twins.get(id(targets[index].manifest)), wanted[index], lines)
            places[index] = place
            name = names[index]
            if name is not None:
                self._written[name] = place
        return places


@dataclass(eq=False, slots=True)
class _Look:
    """The targets of one release: which marks may tell, which arrived."""

    rendered: Rendered
    targets: list[Target] = field(default_factory=list)
    numbers: dict[int, list[Leaf]] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    found: dict[Target, int] = field(default_factory=dict)

    @property
    def open(self) -> set[int]:
        """The marks that may feed what nothing was found for, and those of nothing where something is missing."""
        rest = [target for target in self.targets if target not in self.found]
        return {
            number
            for number, members in self.numbers.items()
            if any(marks.may_feed(members[0], target) for target in (rest if members[0].text else self.targets))
        }

    @property
    def strings(self) -> set[int]:
        """The marks that do not make a string of something else."""
        return {
            number
            for number, members in self.numbers.items()
            if (scalar := members[0].scalar) is None or scalar.tag == "str"
        }

    @property
    def templates(self) -> frozenset[str]:
        return _templates(self.targets)

    def read(self, again: Rendered) -> dict[Target, int]:
        twins = marks.twins(_of(self.rendered, self.templates), again.manifests)
        seen = (
            (target, marks.arrived(target, twins.get(id(target.manifest)), self.numbers)) for target in self.targets
        )
        return {target: number for target, number in seen if number is not None}


_FILES = re.compile(r"\.Files\b")


def _may_be_data(name: str) -> bool:
    """A file that may hold YAML: by its suffix, or without one (`image-tags/production/api`)."""
    return "." not in name or name.endswith(_DATA)


def _templates(targets: Iterable[Target]) -> frozenset[str]:
    return frozenset(target.manifest.template for target in targets if target.manifest.template is not None)


def _of(rendered: Rendered, templates: frozenset[str]) -> list[Manifest]:
    return [manifest for manifest in rendered.manifests if manifest.template in templates]


def _pointers(application: Application, leaf: Leaf) -> Iterator[tuple[str, str | None]]:
    """Where in the Application the input of a leaf stands, and where the scalar is inside it when it is a text."""
    spec = _mapping(application.body.get("spec"))
    many = spec.get("sources")
    places = [("/spec/source", spec.get("source"))]
    if isinstance(many, list) and many:
        places = [(f"/spec/sources/{index}", one) for index, one in enumerate(many)]
    for base, source in places:
        helm = _mapping(_mapping(source).get("helm"))
        inline, parameter = leaf.input.inline, leaf.input.parameter
        if inline is not None and inline.key == "values" and helm.get("values") == inline.text:
            yield f"{base}/helm/values", leaf.pointer
        elif inline is not None and inline.key == "valuesObject" and "valuesObject" in helm:
            if yamlio.dump(helm["valuesObject"]) == inline.text:
                yield f"{base}/helm/valuesObject{leaf.pointer}", None
        elif parameter is not None and isinstance(helm.get("parameters"), list):
            for index, entry in enumerate(helm["parameters"]):
                one = _mapping(entry)
                if one.get("name") == parameter.name and marks.text_of(one.get("value")) == parameter.value:
                    yield f"{base}/helm/parameters/{index}/value", None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _scalars(text: str) -> list[yamlio.Scalar]:
    try:
        return list(yamlio.positions(text).scalars())
    except yamlio.YamlError:
        return []


def _in_file(finding: Finding) -> Finding:
    """A finding about an object of a plain file: the position inside that file."""
    manifest = finding.manifest
    if finding.place is not None or manifest is None or manifest.path is None:
        return finding
    mark = None
    pointer = manifest.within + (finding.pointer or "")
    if pointer:
        try:
            positions = yamlio.positions(manifest.text)
            mark = positions.key(pointer) or positions.value(pointer)
        except yamlio.YamlError:
            mark = None
    if mark is None:
        return replace(finding, place=Place(path=manifest.path, line=manifest.line))
    return replace(finding, place=Place(path=manifest.path, line=manifest.line + mark.line - 1, column=mark.column))


def resolve(
    verdicts: Sequence[Verdict], renders: Mapping[str, Rendered | Unrendered], locator: Locator
) -> list[Verdict]:
    """Give every finding its place. `renders` are those of the run, by the id of the release."""
    owner = {id(manifest): one for one in renders.values() if isinstance(one, Rendered) for manifest in one.manifests}
    findings = {number: list(verdict.findings) for number, verdict in enumerate(verdicts) if verdict.findings}
    wanted: list[tuple[int, int]] = []
    asked: list[tuple[Rendered, Finding]] = []
    for number, members in findings.items():
        for index, finding in enumerate(members):
            members[index] = _in_file(finding)
            if finding.manifest is not None and id(finding.manifest) in owner:
                wanted.append((number, index))
                asked.append((owner[id(finding.manifest)], finding))
    for (number, index), finding in zip(wanted, locator.locate_all(asked), strict=True):
        findings[number][index] = finding
    return [
        replace(verdict, findings=tuple(findings[number])) if number in findings else verdict
        for number, verdict in enumerate(verdicts)
    ]
