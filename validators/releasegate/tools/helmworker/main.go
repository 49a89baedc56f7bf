// Command helmworker renders charts as `helm template` does, and lints them as `helm lint` does, many in one process: one JSON request per line on
// stdin, one JSON answer per line on stdout. It links the Helm module of its go.mod; a test compares its answers with
// those of the helm program byte by byte.
//
// It follows pkg/cmd/template.go, pkg/cmd/install.go (runInstall) and pkg/cmd/lint.go of that module, with what they could do and a
// render must not taken out: no getters (values files are files, never URLs), no registry client, no plugins, no
// dependency update, no output directory. It ends as soon as stdin is closed, also in the middle of a render, so that
// it cannot outlive whoever started it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/cli/values"
	release "helm.sh/helm/v4/pkg/release/v1"
)

const helmModule = "helm.sh/helm/v4"

// source is the sha256 of the files this was built from (first digits), set by the linker.
var source = "unknown"

type request struct {
	Hello       bool     `json:"hello"`
	Lint        bool     `json:"lint"`
	Chart       string   `json:"chart"`
	Name        string   `json:"name"`
	Namespace   string   `json:"namespace"`
	KubeVersion string   `json:"kubeVersion"`
	APIVersions []string `json:"apiVersions"`
	Values      []string `json:"values"`
	Set         []string `json:"set"`
	SetString   []string `json:"setString"`
	SetFile     []string `json:"setFile"`
	IncludeCRDs bool     `json:"includeCRDs"`
	SkipTests   bool     `json:"skipTests"`
}

// answer carries bytes (base64 in JSON): what a template prints need not be UTF-8.
type answer struct {
	Helm   string `json:"helm,omitempty"`
	Source string `json:"source,omitempty"`
	Output []byte `json:"output"`
	Error  []byte `json:"error"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Printf("%s+%s\n", linkedHelm(), source)
		return
	}
	// Nothing but answers may reach the reader.
	answers := bufio.NewWriter(os.Stdout)
	os.Stdout = os.Stderr
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))

	requests := make(chan []byte)
	go func() {
		reader := bufio.NewReaderSize(os.Stdin, 1<<16)
		for {
			line, err := reader.ReadBytes('\n')
			if err != nil {
				os.Exit(0)
			}
			requests <- line
		}
	}()
	encoder := json.NewEncoder(answers)
	for line := range requests {
		if err := encoder.Encode(handle(line)); err != nil {
			os.Exit(1)
		}
		if err := answers.Flush(); err != nil {
			os.Exit(1)
		}
	}
}

func handle(line []byte) answer {
	var req request
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&req); err != nil {
		return answer{Error: []byte("unreadable request: " + err.Error())}
	}
	if req.Hello {
		return answer{Helm: linkedHelm(), Source: source}
	}
	work := template
	if req.Lint {
		work = lint
	}
	output, err := work(req)
	if err != nil {
		return answer{Output: output, Error: []byte(err.Error())}
	}
	return answer{Output: output}
}

// linkedHelm returns the version of the Helm module in this program, "v4.3.1".
func linkedHelm() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == helmModule {
				return dependency.Version
			}
		}
	}
	return "unknown"
}

// template is newTemplateCmd's RunE for the flags Argo CD passes.
func template(req request) ([]byte, error) {
	client := action.NewInstall(action.NewConfiguration())
	// As the flag does it: each may be a comma-separated list.
	flags := pflag.NewFlagSet("template", pflag.ContinueOnError)
	var apiVersions []string
	flags.StringSliceVarP(&apiVersions, "api-versions", "a", []string{}, "")
	for _, version := range req.APIVersions {
		if err := flags.Set("api-versions", version); err != nil {
			return nil, err
		}
	}
	kubeVersion, err := parseKubeVersion(req.KubeVersion)
	if err != nil {
		return nil, err
	}
	client.KubeVersion = kubeVersion
	client.DryRunStrategy = action.DryRunClient
	client.ReleaseName = "release-name"
	client.NameTemplate = req.Name
	client.Replace = true
	client.APIVersions = common.VersionSet(apiVersions)
	client.IncludeCRDs = req.IncludeCRDs
	client.SkipSchemaValidation = true

	rendered, err := install(client, req)
	if err != nil {
		return nil, err
	}
	if rendered == nil {
		return nil, nil
	}
	var manifests bytes.Buffer
	fmt.Fprintln(&manifests, strings.TrimSpace(rendered.Manifest))
	for _, hook := range rendered.Hooks {
		if req.SkipTests && slices.Contains(hook.Events, release.HookTest) {
			continue
		}
		fmt.Fprintf(&manifests, "---\n# Source: %s\n%s\n", hook.Path, hook.Manifest)
	}
	return manifests.Bytes(), nil
}

// lint is newLintCmd's RunE for one chart: what it prints, and the error it ends with.
func lint(req request) ([]byte, error) {
	client := action.NewLint()
	kubeVersion, err := parseKubeVersion(req.KubeVersion)
	if err != nil {
		return nil, err
	}
	client.KubeVersion = kubeVersion
	client.Namespace = namespace(req)
	client.SkipSchemaValidation = true
	merged, err := mergeValues(req)
	if err != nil {
		return nil, err
	}
	result := client.Run([]string{req.Chart}, merged)
	var message bytes.Buffer
	fmt.Fprintf(&message, "==> Linting %s\n", req.Chart)
	if len(result.Messages) == 0 {
		for _, err := range result.Errors {
			fmt.Fprintf(&message, "Error %s\n", err)
		}
	}
	for _, msg := range result.Messages {
		fmt.Fprintf(&message, "%s\n", msg)
	}
	fmt.Fprint(&message, "\n")
	if len(result.Errors) != 0 {
		return message.Bytes(), errors.New("1 chart(s) linted, 1 chart(s) failed")
	}
	fmt.Fprintln(&message, "1 chart(s) linted, 0 chart(s) failed")
	return message.Bytes(), nil
}

func parseKubeVersion(text string) (*common.KubeVersion, error) {
	if text == "" {
		return nil, nil
	}
	parsed, err := common.ParseKubeVersion(text)
	if err != nil {
		return nil, fmt.Errorf("invalid kube version '%s': %w", text, err)
	}
	return parsed, nil
}

func mergeValues(req request) (map[string]any, error) {
	options := values.Options{ValueFiles: req.Values, Values: req.Set, StringValues: req.SetString, FileValues: req.SetFile}
	return options.MergeValues(nil) // no getters: nothing is fetched
}

func namespace(req request) string {
	if req.Namespace == "" {
		return "default"
	}
	return req.Namespace
}

// install is runInstall.
func install(client *action.Install, req request) (*release.Release, error) {
	name, chartRef, err := client.NameAndChart([]string{req.Chart})
	if err != nil {
		return nil, err
	}
	client.ReleaseName = name
	// A path that exists is used as it is, one that does not is an error: it is always absolute.
	path, err := client.LocateChart(chartRef, nil)
	if err != nil {
		return nil, err
	}
	merged, err := mergeValues(req)
	if err != nil {
		return nil, err
	}
	loaded, err := loader.Load(path)
	if err != nil {
		return nil, err
	}
	accessor, err := chart.NewAccessor(loaded)
	if err != nil {
		return nil, err
	}
	switch kind := accessor.MetadataAsMap()["Type"]; kind {
	case "", "application":
	default:
		return nil, fmt.Errorf("%s charts are not installable", kind)
	}
	if dependencies := accessor.MetaDependencies(); len(dependencies) > 0 {
		if err := action.CheckDependencies(loaded, dependencies); err != nil {
			return nil, fmt.Errorf("an error occurred while checking for chart dependencies. You may need to run 'helm dependency build' to fetch missing dependencies: %w", err)
		}
	}
	client.Namespace = namespace(req)
	result, err := client.RunWithContext(context.Background(), loaded, merged)
	if err != nil {
		return nil, err
	}
	switch rel := result.(type) {
	case *release.Release:
		return rel, nil
	case release.Release:
		return &rel, nil
	case nil:
		return nil, nil
	default:
		return nil, fmt.Errorf("unsupported release type: %T", result)
	}
}
