package main

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func (r *run) kv() {
	for at := range 6 {
		r.put("kv.put", fmt.Sprintf("kv/%d", at), fmt.Sprintf("v%d", 9-at))
	}
	r.put("kv.put-again", "kv/3", "new", clientv3.WithPrevKV())
	r.put("kv.put-first", "kv/first", "x", clientv3.WithPrevKV())
	r.put("kv.ignore-value", "kv/3", "", clientv3.WithIgnoreValue(), clientv3.WithPrevKV())
	r.put("kv.ignore-value-absent", "kv/absent", "", clientv3.WithIgnoreValue())
	r.put("kv.empty-value", "kv/empty", "")
	r.get("kv.get", "kv/3")
	r.get("kv.get-absent", "kv/absent")
	r.get("kv.prefix", "kv/", clientv3.WithPrefix())
	r.get("kv.from-key", "kv/4", clientv3.WithFromKey())
	r.get("kv.range", "kv/1", clientv3.WithRange("kv/4"))
	r.get("kv.range-empty", "kv/4", clientv3.WithRange("kv/1"))
	r.get("kv.limit", "kv/", clientv3.WithPrefix(), clientv3.WithLimit(2))
	r.get("kv.count", "kv/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	r.get("kv.keys", "kv/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	r.get("kv.sort-key", "kv/", clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	r.get("kv.sort-value", "kv/", clientv3.WithPrefix(), clientv3.WithLimit(3),
		clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend))
	r.get("kv.sort-modified", "kv/", clientv3.WithPrefix(), clientv3.WithLimit(3),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))
	r.get("kv.sort-version", "kv/", clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend))
	r.get("kv.first-created", "kv/", clientv3.WithFirstCreate()...)
	r.get("kv.last-modified", "kv/", clientv3.WithLastRev()...)
	r.get("kv.old", "kv/3", clientv3.WithRev(r.base+5))
	r.get("kv.serializable", "kv/2", clientv3.WithSerializable())
	r.get("kv.modified-between", "kv/", clientv3.WithPrefix(),
		clientv3.WithMinModRev(r.base+3), clientv3.WithMaxModRev(r.base+5))
	r.get("kv.created-between", "kv/", clientv3.WithPrefix(),
		clientv3.WithMinCreateRev(r.base+3), clientv3.WithMaxCreateRev(r.base+5))
	r.delete("kv.delete", "kv/3", clientv3.WithPrevKV())
	r.delete("kv.delete-absent", "kv/3", clientv3.WithPrevKV())
	r.delete("kv.delete-prefix", "kv/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	r.get("kv.after", "kv/", clientv3.WithPrefix())
	large := strings.Repeat("x", 1<<20)
	r.put("kv.large", "kv/large", large)
	r.step("kv.large-back", func(ctx context.Context) (string, error) {
		answer, err := r.client.Get(ctx, "kv/large")
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("equal %t", string(answer.Kvs[0].Value) == large), nil
	})
}

// Does one call within the time limit and prints what it gave.
func (r *run) step(name string, call func(context.Context) (string, error)) {
	ctx, cancel := r.limit()
	defer cancel()
	line, err := call(ctx)
	if err != nil {
		line = text(err)
	}
	r.say(name, "%s", line)
}

func (r *run) put(name, key, value string, options ...clientv3.OpOption) {
	r.step(name, func(ctx context.Context) (string, error) {
		answer, err := r.client.Put(ctx, key, value, options...)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("at %s before %s", r.rev(answer.Header.Revision), r.pair(answer.PrevKv)), nil
	})
}

func (r *run) get(name, key string, options ...clientv3.OpOption) {
	r.step(name, func(ctx context.Context) (string, error) {
		answer, err := r.client.Get(ctx, key, options...)
		if err != nil {
			return "", err
		}
		return r.found(answer), nil
	})
}

func (r *run) found(answer *clientv3.GetResponse) string {
	return fmt.Sprintf("at %s count %d more %t %s", r.rev(answer.Header.Revision), answer.Count,
		answer.More, r.pairs(answer.Kvs))
}

func (r *run) delete(name, key string, options ...clientv3.OpOption) {
	r.step(name, func(ctx context.Context) (string, error) {
		answer, err := r.client.Delete(ctx, key, options...)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("at %s deleted %d %s", r.rev(answer.Header.Revision), answer.Deleted,
			r.pairs(answer.PrevKvs)), nil
	})
}

func (r *run) txn() {
	is := func(key, value string) clientv3.Cmp {
		return clientv3.Compare(clientv3.Value(key), "=", value)
	}
	absent := func(key string) clientv3.Cmp {
		return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	}
	put, get, remove := clientv3.OpPut, clientv3.OpGet, clientv3.OpDelete
	r.try("txn.create", []clientv3.Cmp{absent("txn/a")},
		[]clientv3.Op{put("txn/a", "1"), put("txn/b", "2"), get("txn/", clientv3.WithPrefix())},
		[]clientv3.Op{get("txn/a")})
	r.try("txn.create-again", []clientv3.Cmp{absent("txn/a")},
		[]clientv3.Op{put("txn/a", "wrong")}, []clientv3.Op{get("txn/a")})
	r.try("txn.swap", []clientv3.Cmp{is("txn/a", "1"), is("txn/b", "2")},
		[]clientv3.Op{put("txn/a", "2", clientv3.WithPrevKV()), put("txn/b", "1")}, nil)
	r.try("txn.compare-all", []clientv3.Cmp{
		clientv3.Compare(clientv3.Version("txn/a"), "=", 2),
		clientv3.Compare(clientv3.Version("txn/a"), "<", 3),
		clientv3.Compare(clientv3.ModRevision("txn/a"), ">", 0),
		clientv3.Compare(clientv3.LeaseValue("txn/a"), "=", 0),
		clientv3.Compare(clientv3.Value("txn/a"), "!=", "1"),
	}, []clientv3.Op{remove("txn/b", clientv3.WithPrevKV())}, nil)
	r.try("txn.range-compare", []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision("txn/"), ">", 0).WithPrefix(),
	}, []clientv3.Op{get("txn/", clientv3.WithPrefix(), clientv3.WithCountOnly())}, nil)
	r.try("txn.nested", nil, []clientv3.Op{
		clientv3.OpTxn([]clientv3.Cmp{is("txn/a", "2")},
			[]clientv3.Op{put("txn/in", "x"), get("txn/in")}, nil),
		clientv3.OpTxn([]clientv3.Cmp{is("txn/a", "wrong")}, nil,
			[]clientv3.Op{get("txn/a", clientv3.WithKeysOnly())}),
	}, nil)
	r.try("txn.empty", nil, nil, nil)
	r.try("txn.twice", nil, []clientv3.Op{put("txn/a", "1"), put("txn/a", "2")}, nil)
	r.try("txn.put-in-deleted", nil,
		[]clientv3.Op{remove("txn/", clientv3.WithPrefix()), put("txn/a", "2")}, nil)
	many := make([]clientv3.Op, 129)
	for at := range many {
		many[at] = get(fmt.Sprint("txn/", at))
	}
	r.try("txn.too-many", nil, many, nil)
	r.try("txn.no-lease", nil, []clientv3.Op{put("txn/l", "1", clientv3.WithLease(404))}, nil)
	r.try("txn.future", nil, []clientv3.Op{get("txn/a", clientv3.WithRev(r.base+9999))}, nil)
}

func (r *run) try(name string, compares []clientv3.Cmp, then, otherwise []clientv3.Op) {
	r.step(name, func(ctx context.Context) (string, error) {
		answer, err := r.client.Txn(ctx).If(compares...).Then(then...).Else(otherwise...).Commit()
		if err != nil {
			return "", err
		}
		return r.outcome(answer), nil
	})
}

func (r *run) outcome(answer *clientv3.TxnResponse) string {
	var results []string
	for _, op := range answer.Responses {
		switch {
		case op.GetResponsePut() != nil:
			results = append(results, "put before "+r.pair(op.GetResponsePut().PrevKv))
		case op.GetResponseRange() != nil:
			results = append(results, r.found((*clientv3.GetResponse)(op.GetResponseRange())))
		case op.GetResponseDeleteRange() != nil:
			deleted := op.GetResponseDeleteRange()
			results = append(results, fmt.Sprintf("deleted %d %s", deleted.Deleted, r.pairs(deleted.PrevKvs)))
		case op.GetResponseTxn() != nil:
			results = append(results, "("+r.outcome((*clientv3.TxnResponse)(op.GetResponseTxn()))+")")
		}
	}
	at := "nowhere"
	if answer.Header != nil {
		at = r.rev(answer.Header.Revision)
	}
	return fmt.Sprintf("at %s succeeded %t %s", at, answer.Succeeded, strings.Join(results, "; "))
}
