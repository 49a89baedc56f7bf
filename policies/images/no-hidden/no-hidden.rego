# METADATA
# title: No image is named in an argument or a variable without its digest.
# description: >-
#   An operator that starts pods of its own is told their images by flags and variables (`--config-reloader=…`,
#   `RELATED_IMAGE_…`), where the image rules do not look. Looked at are arguments and literal environment variables of
#   every pod spec: what is an image reference with a registry, and what a flag or variable named for an image holds.
# custom:
#   why: >-
#     such an image runs in the cluster like any other, often with more rights, and its tag can be pushed again. Pinning
#     the operator alone does not pin what it starts.
#   fix: >-
#     append the digest that the registry shows for the tag: `crane digest REPO:TAG`. An operator that does not take a
#     digest: waive it by name.
#   podspecs: true
package policies.images.no_hidden

import data.releasegate.pods

_tag := `:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`

_path := `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*`

# A registry's host has a dot before the first slash; its tag follows the last one.
_with_registry := sprintf(`^[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}(?::[0-9]+)?/%s%s$`, [_path, _tag])

_without_registry := sprintf(`^%s(?:%s)?$`, [_path, _tag])

_named := `(?i)(?:^|[_.-])images?(?:[_.-](?:name|ref|reference|uri|url))?$|^RELATED_IMAGE_`

_is_image(_, value) if {
	contains(value, "/")
	contains(value, ":")
	regex.match(_with_registry, value)
}

_is_image(name, value) if {
	regex.match(_named, name)
	regex.match(_without_registry, value)
	regex.match(`[:/]`, value)
	not regex.match(`:[0-9]+$`, value) # a port: `image: proxy:8080`
}

_is_image(name, value) if {
	regex.match(_named, name)
	regex.match(sprintf(`^%s:[0-9]+$`, [_path]), value)
	contains(value, "/")
}

deny contains finding if {
	some one in pods.containers
	some key in ["args", "command"]
	some index, argument in one.container[key]
	is_string(argument)
	[name, value] := _parted(argument)
	_is_image(name, value)
	finding := {
		"msg": sprintf("%s of %s %s name the image %s without its digest", [key, one.role, one.name, value]),
		"pointer": sprintf("%s/%s/%d", [one.pointer, key, index]),
		"fix": sprintf("write %s@sha256:<64 hexadecimal digits>; `crane digest %s` prints it", [value, value]),
		"change": sprintf("pin %s", [value]),
	}
}

deny contains finding if {
	some one in pods.containers
	some index, variable in one.container.env
	is_string(variable.value)
	_is_image(variable.name, variable.value)
	finding := {
		"msg": sprintf("%s of %s %s names the image %s without its digest", [variable.name, one.role, one.name, variable.value]),
		"pointer": sprintf("%s/env/%d/value", [one.pointer, index]),
		"fix": sprintf(
			"write %s@sha256:<64 hexadecimal digits>; `crane digest %s` prints it",
			[variable.value, variable.value],
		),
		"change": sprintf("pin %s", [variable.value]),
	}
}

_parted(argument) := [trim_left(name, "-"), value] if {
	[_, name, value] := regex.find_all_string_submatch_n(`^(-{1,2}[A-Za-z][\w.-]*)=(.*)$`, argument, 1)[0]
}

_parted(argument) := ["", argument] if not regex.match(`^-{1,2}[A-Za-z][\w.-]*=`, argument)
