#!/usr/bin/env bash
# What people write in CI: for each environment and release, one after the other, `helm template`, the result into
# kubeconform and conftest, and a grep for images without digest; then promtool over the rule files and their unit tests.
#
#   pipeline.sh [--lint] ROOT SCHEMAS [RELEASES]
#
# ROOT      the config repo
# SCHEMAS   a folder of kubeconform's layout (python -m releasegate.schemas.bundle --export SCHEMAS VERSION)
# RELEASES  tab-separated: environment, release, namespace, chart, values files joined by commas; paths relative to ROOT
#           or absolute. Without it: helm/*/values-<environment>.yaml, as in the repos that generate.py writes.
# --lint    `helm lint` of each release as well
#
# HELM, KUBECONFORM, CONFTEST, PROMTOOL and KUBERNETES (1.37) name the programs and the version; POLICIES is the folder
# of Rego policies, the same ones that releasegate judges by.
# Exit code 1 if anything was found. That it finds less is not the point here; tests/ and docs/ show what it misses.
set -uo pipefail

lint=false
if [ "${1:-}" = --lint ]; then
  lint=true
  shift
fi
root=$1 schemas=$2 releases=${3:-}
helm=${HELM:-helm}
kubeconform=${KUBECONFORM:-kubeconform}
conftest=${CONFTEST:-conftest}
promtool=${PROMTOOL:-promtool}
policies=${POLICIES:-$(cd "${0%/*}/../policies" && pwd)}
kubernetes=${KUBERNETES:-1.37}
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
cd "$root" || exit 2

by_convention() {
  local environment values chart
  for environment in dev staging prod; do
    for values in helm/*/values-"$environment".yaml; do
      chart=${values%/*}
      printf '%s\t%s\t%s\t%s\t%s\n' "$environment" "${chart##*/}" "bench-$environment" "$chart" \
        "environments/$environment.yaml,$values"
    done
  done
}

judge() {
  local environment=$1 release=$2 namespace=$3 chart=$4 files=$5 unpinned
  local arguments=()
  local file
  IFS=, read -ra files <<<"$files"
  for file in ${files[@]+"${files[@]}"}; do
    arguments+=(--values "$file")
  done
  if $lint && ! "$helm" lint "$chart" --quiet --kube-version "$kubernetes" ${arguments[@]+"${arguments[@]}"}; then
    echo "$environment/$release: helm lint" >&2
    return 1
  fi
  if ! "$helm" template "$release" "$chart" --namespace "$namespace" --kube-version "$kubernetes" --include-crds \
    ${arguments[@]+"${arguments[@]}"} >"$rendered"; then
    echo "$environment/$release: helm template" >&2
    return 1
  fi
  if ! "$kubeconform" -strict -ignore-missing-schemas -kubernetes-version "$kubernetes.0" \
    -schema-location "$schemas" -summary - <"$rendered"; then
    echo "$environment/$release: kubeconform" >&2
    return 1
  fi
  if ! "$conftest" test --no-color --all-namespaces --policy "$policies" "$rendered"; then
    echo "$environment/$release: conftest" >&2
    return 1
  fi
  if [ "$environment" != dev ] && unpinned=$(grep -E '^[[:space:]]*(- )?image:' "$rendered" | grep -v '@sha256:'); then
    printf '%s/%s: not pinned by digest:\n%s\n' "$environment" "$release" "$unpinned" >&2
    return 1
  fi
}

failed=0
while IFS=$'\t' read -r environment release namespace chart files; do
  judge "$environment" "$release" "$namespace" "$chart" "$files" </dev/null || failed=1
done < <(if [ -n "$releases" ]; then cat "$releases"; else by_convention; fi)

# Rules that only a render holds are out of its sight; so they are in most repos.
prometheus_files() {
  grep -rlZE "$1" --include='*.yaml' --include='*.yml' . --exclude-dir=.git
}
mapfile -d '' -t rules < <(prometheus_files '^groups:')
mapfile -d '' -t tests < <(prometheus_files '^rule_files:')
if [ ${#rules[@]} -gt 0 ]; then
  "$promtool" check rules --lint=all --lint-fatal "${rules[@]}" || failed=1
fi
for tested in ${tests[@]+"${tests[@]}"}; do
  if grep -q '^tests:' "$tested"; then
    "$promtool" test rules "$tested" || failed=1
  fi
done
exit $failed
