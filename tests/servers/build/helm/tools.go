//go:build tools

// Package tools names the programs that are built, so that go.mod and go.sum hold what they need.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
