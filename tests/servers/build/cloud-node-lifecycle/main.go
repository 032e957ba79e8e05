// Runs the node lifecycle controller of k8s.io/cloud-provider for a cloud that has no machines.
//
// The cloud answers as those of which docs/clouds.md was read: a Node without a provider ID is looked for by its name and
// not found, one with a provider ID of another form cannot be looked for, which is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/nodelifecycle"
	"k8s.io/component-base/metrics/prometheus/controllers"
)

// Labels by which clouds leave a Node alone, and the value that they look for; empty: any.
var unmanaged = map[string]map[string]string{
	"":      {},
	"azure": {"kubernetes.azure.com/managed": "false"},
}

type empty struct{ labels map[string]string }

func (empty) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}
func (empty) LoadBalancer() (cloudprovider.LoadBalancer, bool)                   { return nil, false }
func (empty) Instances() (cloudprovider.Instances, bool)                         { return nil, false }
func (e empty) InstancesV2() (cloudprovider.InstancesV2, bool)                   { return e, true }
func (empty) Zones() (cloudprovider.Zones, bool)                                 { return nil, false }
func (empty) Clusters() (cloudprovider.Clusters, bool)                           { return nil, false }
func (empty) Routes() (cloudprovider.Routes, bool)                               { return nil, false }
func (empty) ProviderName() string                                               { return "empty" }
func (empty) HasClusterID() bool                                                 { return true }

func (e empty) InstanceExists(_ context.Context, node *v1.Node) (bool, error) {
	for name, value := range e.labels {
		if node.Labels[name] == value {
			return true, nil
		}
	}
	if id := node.Spec.ProviderID; id != "" && !strings.HasPrefix(id, "empty://") {
		return false, fmt.Errorf("provider ID %q is not of this cloud", id)
	}
	return false, nil
}

func (empty) InstanceShutdown(context.Context, *v1.Node) (bool, error) { return false, nil }

func (empty) InstanceMetadata(context.Context, *v1.Node) (*cloudprovider.InstanceMetadata, error) {
	return nil, cloudprovider.InstanceNotFound
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file")
	cloud := flag.String("cloud", "", "whose labels are heeded: azure, or none")
	flag.Parse()
	labels, known := unmanaged[*cloud]
	if !known {
		return errors.New("there is no such cloud")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	controller, err := nodelifecycle.NewCloudNodeLifecycleController(nodes, client, empty{labels}, time.Second)
	if err != nil {
		return err
	}
	nodes.Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	controller.Run(ctx, controllers.NewControllerManagerMetrics("cloud-node-lifecycle"))
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
