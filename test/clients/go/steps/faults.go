package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
)

// How many keys the driver writes while the connection is cut.
const writtenInTheDark = 5

// Watches and leases through a connection that is cut and a server that is killed.
func (r *run) faults() {
	client := r.connect(os.Getenv("RELAY"))
	defer client.Close()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	grant, err := client.Grant(ctx, 30)
	if err != nil {
		r.say("faults.grant", "%s", text(err))
		return
	}
	kept, err := client.KeepAlive(ctx, grant.ID)
	if err != nil {
		r.say("faults.keep-alive", "%s", text(err))
		return
	}
	<-kept
	r.put("faults.leased", "faults/leased", "x", clientv3.WithLease(grant.ID))
	watch := client.Watch(ctx, "faults/", clientv3.WithPrefix(), clientv3.WithRev(r.now()+1))
	r.put("faults.before", "faults/before", "1")
	r.events("faults.before", watch, 1)

	r.ask("cut faults/cut %d", writtenInTheDark)
	r.put("faults.after-cut", "faults/after-cut", "1")
	r.events("faults.cut", watch, writtenInTheDark+1)

	r.ask("restart")
	r.putAgain("faults.after-restart", "faults/after-restart")
	r.events("faults.restart", watch, 1)

	r.ask("cut faults/again %d", writtenInTheDark)
	r.events("faults.again", watch, writtenInTheDark)
	r.step("faults.kept", func(ctx context.Context) (string, error) {
		answer, err := client.KeepAliveOnce(ctx, grant.ID)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("ttl %d", answer.TTL), nil
	})
	r.get("faults.all", "faults/", clientv3.WithPrefix())
}

// Puts a key to a server that was just started: the library's connection may still wait before it
// tries again.
func (r *run) putAgain(name, key string) {
	r.step(name, func(ctx context.Context) (string, error) {
		for {
			answer, err := r.client.Put(ctx, key, "1")
			if err == nil {
				return "at " + r.rev(answer.Header.Revision), nil
			}
			select {
			case <-ctx.Done():
				return "", err
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
}

// The forms of endpoints, with the authority that the library itself makes of them.
func (r *run) endpoints() {
	server, dead := os.Getenv("ENDPOINT"), os.Getenv("DEAD")
	gzipped := grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))
	r.form("endpoint.bare", nil, server)
	r.form("endpoint.http", nil, "http://"+server)
	r.form("endpoint.several", nil, dead, server)
	r.form("endpoint.several-http", nil, "http://"+dead, "http://"+server)
	r.form("endpoint.unix", nil, "unix://"+os.Getenv("UNIX"))
	r.form("endpoint.gzip", []grpc.DialOption{gzipped, grpc.WithAuthority("localhost")}, server)
}

func (r *run) form(name string, options []grpc.DialOption, endpoints ...string) {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	client, err := r.dial(options, endpoints...)
	if err != nil {
		r.say(name, "%s", text(err))
		return
	}
	defer client.Close()
	if _, err := client.Put(ctx, name, "x"); err != nil {
		r.say(name, "put %s", text(err))
		return
	}
	answer, err := client.Get(ctx, name)
	if err != nil {
		r.say(name, "get %s", text(err))
		return
	}
	r.say(name, "%s=%s", answer.Kvs[0].Key, answer.Kvs[0].Value)
}
