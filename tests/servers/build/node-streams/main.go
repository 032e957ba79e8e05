// The part of a node's kubelet that runs commands: exec, attach and port-forward, by the library of kubelets and
// container runtimes, so that SPDY and WebSockets are theirs. There are no containers: commands are processes in a
// folder, attach is connected with one that repeats what it reads, ports are those of 127.0.0.1.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const (
	idle     = 4 * time.Hour
	creation = remotecommand.DefaultStreamCreationTimeout
)

// node runs commands in a folder; which Pod and container they are for, they find in their environment.
type node struct{ folder string }

func (n node) ExecInContainer(ctx context.Context, pod, _, container string, command []string, in io.Reader,
	out, errors io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	go func() {
		for range resize {
		}
	}()
	process := exec.CommandContext(ctx, command[0], command[1:]...)
	process.Dir = n.folder
	process.Env = append(os.Environ(), "POD="+pod, "CONTAINER="+container, fmt.Sprintf("TTY=%t", tty))
	process.Stdout, process.Stderr = writer(out), writer(errors)
	if in != nil {
		// Not process.Stdin, which would have Wait wait for the caller to end it.
		stdin, err := process.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(stdin, in)
			stdin.Close()
		}()
	}
	return exited(process.Run())
}

func (n node) AttachContainer(ctx context.Context, pod, uid, container string, in io.Reader,
	out, errors io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return n.ExecInContainer(ctx, pod, uid, container, []string{"cat"}, in, out, errors, tty, resize, 0)
}

func (n node) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer server.Close()
	go func() {
		io.Copy(server, stream)
		server.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, server)
	return err
}

func writer(stream io.WriteCloser) io.Writer {
	if stream == nil {
		return nil
	}
	return stream
}

func exited(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}

func (n node) exec(w http.ResponseWriter, r *http.Request) {
	if options, err := remotecommand.NewOptions(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	} else {
		remotecommand.ServeExec(w, r, n, pod(r), "", r.PathValue("container"), r.URL.Query()["command"], options, idle,
			creation, remotecommand.SupportedStreamingProtocols)
	}
}

func (n node) attach(w http.ResponseWriter, r *http.Request) {
	if options, err := remotecommand.NewOptions(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	} else {
		remotecommand.ServeAttach(w, r, n, pod(r), "", r.PathValue("container"), options, idle, creation,
			remotecommand.SupportedStreamingProtocols)
	}
}

func (n node) portForward(w http.ResponseWriter, r *http.Request) {
	if options, err := portforward.NewV4Options(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	} else {
		portforward.ServePortForward(w, r, n, pod(r), "", options, idle, creation, portforward.SupportedProtocols)
	}
}

func pod(r *http.Request) string { return r.PathValue("namespace") + "/" + r.PathValue("pod") }

func main() {
	address := flag.String("address", "127.0.0.1:0", "host:port to listen on")
	certificate := flag.String("certificate", "", "PEM file of the certificate")
	key := flag.String("key", "", "PEM file of its key")
	clients := flag.String("client-ca", "", "PEM file of the CA of clients")
	folder := flag.String("folder", ".", "where commands run")
	flag.Parse()
	ca, err := os.ReadFile(*clients)
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	n, mux := node{*folder}, http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", n.exec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", n.attach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", n.portForward)
	server := http.Server{
		Addr:      *address,
		Handler:   mux,
		TLSConfig: &tls.Config{ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		// Hijacking knows no HTTP/2.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	log.Fatal(server.ListenAndServeTLS(*certificate, *key))
}
