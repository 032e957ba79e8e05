//go:build tools

// Package tools names the programs that are built, so that go.mod and go.sum hold what they need.
package tools

import (
	_ "github.com/argoproj/argo-rollouts/cmd/kubectl-argo-rollouts"
	_ "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"
)
