# METADATA
# title: No password, key or token is written in plain text.
# description: >-
#   Looked at are the literal values of environment variables, command lines, and ConfigMaps. Found are values in the
#   form of a known credential (private keys, tokens of GitHub, GitLab, Slack, Stripe, AWS keys, passwords in URLs), and
#   values of variables named for one (`DB_PASSWORD`, `API_TOKEN`, `SECRET_KEY_BASE`). The values are never printed.
# custom:
#   why: >-
#     whoever can read the config repo, its clones, its CI logs or a `kubectl describe` has the password, for ever: git
#     keeps it after it is deleted. A Secret is readable by those who may read Secrets, and can be changed.
#   fix: >-
#     change the credential now, since it has been published. Put the new one where the others are (a Secret written by
#     External Secrets, Vault or Sealed Secrets) and refer to it: `valueFrom: {secretKeyRef: …}`.
#   podspecs: true
#   kinds: [ConfigMap]
package policies.security.no_plain_secrets

import data.releasegate.pods

# Forms that nothing but a credential has. Sources: the documentation of each issuer; as in gitleaks' rules.
_forms := {
	"a private key": `-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP )?PRIVATE KEY(?: BLOCK)?-----\s*\S`,
	"a GitHub token": `\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})`,
	"a GitLab token": `\bglpat-[A-Za-z0-9_-]{20}`,
	"a Slack token": `\bxox[abeoprs]-[0-9A-Za-z-]{20}|hooks\.slack\.com/services/T[A-Z0-9]{7,}/B[A-Z0-9]{7,}/[A-Za-z0-9]{20}`,
	"a Stripe key": `\b[rs]k_live_[0-9A-Za-z]{20}`,
	"a Google API key": `\bAIza[0-9A-Za-z_-]{35}`,
	"an AWS access key": `\b(?:AKIA|ASIA)[A-Z2-7]{16}\b`,
	"a SendGrid key": `\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}`,
	"an npm token": `\bnpm_[A-Za-z0-9]{36}\b`,
	"a JSON Web Token": `\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,}`,
}

# A search for all at once: most values hold none.
_any_form := concat("|", [sprintf("(?:%s)", [form]) | some form in _forms])

_url := `\b[a-z][a-z0-9+.-]*://[^\s:/@"'{}<>]*:([^\s:/@"'<>]+)@`

_words := `PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API[_.-]?KEY|(?:SECRET|PRIVATE|ACCESS|AUTH)[_.-]?KEY|SECRET[_.-]KEY[_.-]BASE|CREDENTIALS?`

_named := sprintf(`(?i)(?:^|[_.-])(?:%s)$`, [_words])

# Stands for a credential and is none: a reference, a file, a switch, a word that says so.
_harmless := `(?i)^(?:|true|false|yes|no|on|off|enabled|disabled|null|none|nil|n/a|-|redacted|(?:dummy|fake|unused|example|placeholder|do[-_ ]?not[-_ ]?use|not[-_ ]?(?:set|used|needed|required|a[-_ ]?real))\b.*|(?:dummy|fake|unused|placeholder)[-_].*|x{3,}|\*+|\.+|<.*>|\[.*\]|[0-9]{1,5}[a-z]?|.*\$\(.*|.*\$\{.*|\$[A-Z_][A-Z0-9_]*|.*\{\{.*|%.*%|[./~].*|[a-z][a-z0-9+.-]*://.*|(?:arn|vault|ref|op|sm|ssm|awssm|gcpsm):.*)$`

# Whether anything here may be a credential: one search of the whole object instead of one per value.
_suspect if regex.match(_anything, json.marshal(input))

_anything := sprintf(`%s|://[^\s:/@"]*:[^\s/@"]+@|(?i:%s)`, [_any_form, _words])

_form_of(text) := what if {
	count(text) > 11 # shorter ones have no form
	regex.match(_any_form, text)
	what := sort([name | some name, form in _forms; regex.match(form, text)])[0]
} else := "a password in a URL" if {
	contains(text, "@")
	some found in regex.find_all_string_submatch_n(_url, text, -1)
	not _stands_for_something(found[1])
}

# What stands where a password would: a reference, or an example of one.
_stands_for_something(password) if regex.match(`(?i)^(?:\$.*|%.*|\{.*|x+|\*+|\.+|pass|password|passwd|pwd|secret|token|redacted)$`, password)

_wrong(name, text) := what if {
	what := _form_of(text)
} else := "what its name says is a credential" if {
	regex.match(_named, name)
	not contains(trim_space(text), "\n")
	not regex.match(_harmless, trim_space(text))
}

deny contains finding if {
	_suspect
	some one in pods.containers
	some index, variable in one.container.env
	is_string(variable.value)
	what := _wrong(variable.name, variable.value)
	finding := {
		"msg": sprintf("%s of %s %s holds %s in plain text", [variable.name, one.role, one.name, what]),
		"pointer": sprintf("%s/env/%d/value", [one.pointer, index]),
	}
}

deny contains finding if {
	_suspect
	some one in pods.containers
	some key in ["args", "command"]
	some index, argument in one.container[key]
	is_string(argument)
	what := _in_argument(argument)
	finding := {
		"msg": sprintf("%s of %s %s hold %s in plain text", [key, one.role, one.name, what]),
		"pointer": sprintf("%s/%s/%d", [one.pointer, key, index]),
	}
}

_in_argument(argument) := what if {
	what := _form_of(argument)
} else := sprintf("the value of --%s", [name]) if {
	[_, name, value] := regex.find_all_string_submatch_n(`^--?([A-Za-z][\w.-]*)=(\S+)$`, argument, 1)[0]
	regex.match(_named, name)
	not regex.match(_harmless, value)
}

deny contains finding if {
	_suspect
	input.kind == "ConfigMap"
	some key, text in input.data
	is_string(text)
	what := _wrong(key, text)
	finding := {
		"msg": sprintf("%s holds %s in plain text", [key, what]),
		"pointer": sprintf("/data/%s", [replace(replace(key, "~", "~0"), "/", "~1")]),
	}
}
