// Steps of clientv3 and its recipes against one server, a line for each. The lines hold no ids,
// times or ports, and revisions count from the first step, so that two servers that behave alike
// give the same lines.
//
// The environment gives the addresses: ENDPOINT (the server), RELAY (the same, through a relay that
// can be cut), DEAD (nobody listens), UNIX (a socket of the relay). AUTHORITY, if set, replaces the
// :authority that the library would send, except in the steps about the forms of endpoints. A line
// that begins with @ asks the driver for a fault; it answers with a line when it is done.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// The time limit of one step.
const stepTimeMax = 15 * time.Second

// A run against one server.
type run struct {
	client *clientv3.Client
	ctx    context.Context
	// The revision at the start.
	base    int64
	printed sync.Mutex
	answers *bufio.Scanner
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r := &run{ctx: ctx, answers: bufio.NewScanner(os.Stdin)}
	if len(os.Args) > 1 && os.Args[1] == "kubernetes" {
		r.client = r.connect(os.Getenv("RELAY"))
		r.begin()
		r.kubernetes()
		r.say("end", "ok")
		return
	}
	r.endpoints()
	r.client = r.connect(os.Getenv("ENDPOINT"))
	if !r.begin() {
		return
	}
	r.kv()
	r.txn()
	r.watch()
	r.lease()
	r.recipes()
	r.maintenance()
	r.errors()
	r.faults()
	r.say("end", "ok")
}

// A client with the authority that was asked for.
func (r *run) connect(endpoints ...string) *clientv3.Client {
	var options []grpc.DialOption
	if authority := os.Getenv("AUTHORITY"); authority != "" {
		options = append(options, grpc.WithAuthority(authority))
	}
	client, err := r.dial(options, endpoints...)
	if err != nil {
		r.say("connect", "%s", text(err))
		os.Exit(1)
	}
	return client
}

func (r *run) dial(options []grpc.DialOption, endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 5 * time.Second, DialOptions: options,
	})
}

// Notes the revision from which the others count.
func (r *run) begin() bool {
	ctx, cancel := r.limit()
	defer cancel()
	answer, err := r.client.Get(ctx, "begin")
	if err != nil {
		r.say("begin", "%s", text(err))
		return false
	}
	r.base = answer.Header.Revision
	r.say("begin", "%d keys", answer.Count)
	return true
}

func (r *run) limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.ctx, stepTimeMax)
}

// Prints the line of a step.
func (r *run) say(step, format string, args ...any) {
	r.printed.Lock()
	defer r.printed.Unlock()
	fmt.Printf("%s: %s\n", step, fmt.Sprintf(format, args...))
}

// Asks the driver for a fault and waits until it is done.
func (r *run) ask(format string, args ...any) {
	r.printed.Lock()
	defer r.printed.Unlock()
	fmt.Printf("@"+format+"\n", args...)
	if !r.answers.Scan() {
		fmt.Println("ask: the driver is gone")
		os.Exit(1)
	}
}

// A revision as the distance from the start.
func (r *run) rev(revision int64) string {
	if revision == 0 {
		return "0"
	}
	return fmt.Sprintf("%+d", revision-r.base)
}

func (r *run) pair(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "none"
	}
	lease := ""
	if kv.Lease != 0 {
		lease = " leased"
	}
	return fmt.Sprintf("%s=%s created %s modified %s version %d%s", kv.Key, kv.Value,
		r.rev(kv.CreateRevision), r.rev(kv.ModRevision), kv.Version, lease)
}

func (r *run) pairs(kvs []*mvccpb.KeyValue) string {
	all := make([]string, 0, len(kvs))
	for _, kv := range kvs {
		all = append(all, r.pair(kv))
	}
	return "[" + strings.Join(all, "; ") + "]"
}

func (r *run) event(event *clientv3.Event) string {
	line := fmt.Sprintf("%s %s", event.Type, r.pair(event.Kv))
	if event.PrevKv != nil {
		line += " before (" + r.pair(event.PrevKv) + ")"
	}
	return line
}

// An error as its users see it: the code, if it has one, and the message.
func text(err error) string {
	if err == nil {
		return "ok"
	}
	var coded interface{ Code() codes.Code }
	if errors.As(err, &coded) {
		return fmt.Sprintf("error %s: %s", coded.Code(), err)
	}
	return fmt.Sprintf("error: %s", err)
}
