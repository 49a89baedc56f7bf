package policies.security.no_plain_secrets_test

import data.policies.security.no_plain_secrets as policy

_pod(container) := {
	"apiVersion": "v1",
	"kind": "Pod",
	"metadata": {"name": "api"},
	"spec": {"containers": [object.union({"name": "api", "image": "api"}, container)]},
}

_env(name, value) := found if {
	found := count(policy.deny) with input as _pod({"env": [{"name": name, "value": value}]})
}

_args(argument) := found if {
	found := count(policy.deny) with input as _pod({"args": [argument]})
}

_config(key, value) := found if {
	made := {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "api"}, "data": {key: value}}
	found := count(policy.deny) with input as made
}

test_a_password_by_its_name if {
	every name in ["DB_PASSWORD", "PASSWORD", "api_token", "SECRET_KEY_BASE", "STRIPE_API_KEY", "AWS_SECRET_ACCESS_KEY"] {
		_env(name, "hunter22") == 1
	}
}

test_the_value_is_never_part_of_the_message if {
	found := policy.deny with input as _pod({"env": [{"name": "DB_PASSWORD", "value": "hunter22"}]})
	count(found) == 1
	not contains(json.marshal(found), "hunter22")
}

test_what_only_speaks_of_credentials_passes if {
	every name in ["PASSWORD_FILE", "TOKEN_TTL", "SECRET_NAME", "API_KEY_ID", "TOKENIZER", "MONKEY"] {
		_env(name, "hunter22") == 0
	}
}

test_what_stands_for_a_credential_passes if {
	every value in [
		"", "true", "$(DB_PASSWORD)", "${DB_PASSWORD}", "/run/secrets/db", "vault:secret/data/db#password", "dummy",
		"3600", "unused_for_dbmigrate_but_still_required", "do-not-use", "dummy-value", "xxxx", "<set by the operator>", "{{ .password }}", "none", "https://tokens.example/issue",
	] {
		_env("DB_PASSWORD", value) == 0
	}
}

test_a_reference_to_a_secret_passes if {
	variable := {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}
	count(policy.deny) == 0 with input as _pod({"env": [variable]})
}

test_forms_of_credentials_whatever_their_name if {
	every value in [
		concat("", ["AKIA", "IOSFODNN7EXAMPLE"]),
		concat("", ["ghp_", "0123456789abcdefghijABCDEFGHIJ012345"]),
		concat("", ["-----BEGIN RSA PRIVATE", " KEY-----\nMIIEow"]),
		"postgres://api:hunter22@db.example:5432/api",
	] {
		_env("SETTING", value) == 1
	}
}

test_urls_without_a_password_pass if {
	every value in [
		"postgres://api@db.example/api", "https://example.org:8080/@user", "postgres://api:$(DB_PASSWORD)@db/api",
		"postgres://user:password@localhost/db", "redis://:${REDIS_PASSWORD}@redis:6379",
	] {
		_env("DATABASE_URL", value) == 0
	}
}

test_arguments if {
	_args("--db-password=hunter22") == 1
	_args("--db-password=$(DB_PASSWORD)") == 0
	_args("--password-file=/run/secrets/db") == 0
	_args("postgres://api:hunter22@db/api") == 1
}

test_config_maps_by_key_and_by_content if {
	_config("db.password", "hunter22") == 1
	_config("application.yaml", "url: postgres://api:hunter22@db/api\n") == 1
	_config("application.yaml", "password: ${DB_PASSWORD}\n") == 0
	_config("rules.yaml", "token:\n  - a\n  - b\n") == 0
}
