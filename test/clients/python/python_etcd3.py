"""Steps of the library `etcd3`, a line for each."""

import io
import queue
import threading

import etcd3
import grpc

from lines import Base, ask, error_text, host_and_port, say

STEP_TIME_MAX = 15


class Steps:
    def __init__(self):
        host, port = host_and_port("ENDPOINT")
        self.client = etcd3.client(host=host, port=port, timeout=STEP_TIME_MAX)
        header = self.client.get_response("begin").header
        self.base = Base(header.revision)
        self.kvstub = self.client.kvstub

    def step(self, name, call):
        try:
            say(name, call())
        except Exception as error:
            say(name, error_text(error))

    def now(self):
        return self.client.get_response("now").header.revision

    def put(self, name, key, value, **options):
        def call():
            answer = self.client.put(key, value, **options)
            before = answer.prev_kv if options.get("prev_kv") else None
            return f"at {self.base.rev(answer.header.revision)} before {self.base.pair(before)}"

        self.step(name, call)

    def found(self, answer):
        return (
            f"at {self.base.rev(answer.header.revision)} count {answer.count} more {answer.more} "
            f"{self.base.pairs(answer.kvs)}"
        )

    def prefix(self, name, prefix, **options):
        self.step(name, lambda: self.found(self.client.get_prefix_response(prefix, **options)))

    def delete(self, name, key):
        def call():
            answer = self.client.delete(key, prev_kv=True, return_response=True)
            return (
                f"at {self.base.rev(answer.header.revision)} deleted {answer.deleted} "
                f"{self.base.pairs(answer.prev_kvs)}"
            )

        self.step(name, call)

    def kv(self):
        for at in range(5):
            self.put("kv.put", f"kv/{at}", f"v{9 - at}")
        self.put("kv.again", "kv/3", "new", prev_kv=True)
        self.step("kv.get", lambda: self.found(self.client.get_response("kv/3")))
        self.step("kv.absent", lambda: self.client.get("kv/absent"))
        self.prefix("kv.prefix", "kv/")
        self.prefix("kv.keys", "kv/", keys_only=True)
        for target in ("key", "version", "create", "mod", "value"):
            for order in ("ascend", "descend"):
                self.prefix(f"kv.sort-{target}-{order}", "kv/", sort_order=order, sort_target=target)
        self.step("kv.range", lambda: self.found(self.client.get_range_response("kv/1", "kv/4")))
        self.step("kv.all", lambda: self.client.get_all_response().count)
        self.step("kv.if-absent", lambda: self.client.put_if_not_exists("kv/5", "x"))
        self.step("kv.if-absent-again", lambda: self.client.put_if_not_exists("kv/5", "y"))
        self.step("kv.replace", lambda: self.client.replace("kv/5", "x", "y"))
        self.step("kv.replace-again", lambda: self.client.replace("kv/5", "x", "z"))
        self.delete("kv.delete", "kv/5")
        self.delete("kv.delete-absent", "kv/5")
        self.step("kv.delete-prefix", lambda: self.client.delete_prefix("kv/").deleted)

    def txn(self):
        t = self.client.transactions

        def run(name, compare, success, failure):
            def call():
                succeeded, results = self.client.transaction(compare, success, failure)
                return f"succeeded {succeeded} " + "; ".join(map(self.result, results))

            self.step(name, call)

        run("txn.create", [t.create("txn/a") == 0], [t.put("txn/a", "1"), t.get("txn/a")], [])
        run("txn.create-again", [t.create("txn/a") == 0], [], [t.get("txn/a")])
        run("txn.version", [t.version("txn/a") > 0, t.value("txn/a") == "1"],
            [t.put("txn/a", "2"), t.put("txn/b", "3")], [])
        run("txn.mod", [t.mod("txn/a") < 1], [], [t.delete("txn/b", prev_kv=True)])
        run("txn.nested", [], [t.txn([t.value("txn/a") == "2"], [t.put("txn/in", "1")], []),
                               t.get("txn/", range_end="txn0")], [])
        run("txn.twice", [], [t.put("txn/a", "1"), t.put("txn/a", "2")], [])

    def result(self, result):
        if isinstance(result, list):
            return str([(value.decode(), meta.key.decode(), self.base.rev(meta.mod_revision))
                        for value, meta in result])
        kind = result.WhichOneof("response")
        if kind == "response_delete_range":
            deleted = result.response_delete_range
            return f"deleted {deleted.deleted} {self.base.pairs(deleted.prev_kvs)}"
        if kind == "response_txn":
            return f"txn {result.response_txn.succeeded}"
        return kind

    def events(self, name, responses, count):
        """Prints events until there are enough, or an error comes, or time is over."""
        told = queue.Queue()

        def read():
            try:
                for response in responses:
                    for event in response.events:
                        told.put(event)
            except Exception as error:
                told.put(error)

        threading.Thread(target=read, daemon=True).start()
        for seen in range(count):
            try:
                event = told.get(timeout=STEP_TIME_MAX)
            except queue.Empty:
                say(name, f"no more events after {seen} of {count}")
                return None
            if isinstance(event, Exception):
                compacted = getattr(event, "compacted_revision", None)
                say(name, f"error {type(event).__name__}",
                    self.base.rev(compacted) if compacted else "")
                return None
            # The library wraps the protocol's event; its pairs are read as the protocol has them.
            kv, before = event._event.kv, event._event.prev_kv
            say(name, type(event).__name__, self.base.pair(kv), "before", self.base.pair(before))
        return told

    def watch(self):
        start = self.now()
        prefix, cancel = self.client.watch_prefix_response("watch/", prev_kv=True,
                                                           start_revision=start + 1)
        one, cancel_one = self.client.watch_response("watch/b")
        self.put("watch.put", "watch/a", "1")
        self.put("watch.put", "watch/b", "2")
        self.delete("watch.delete", "watch/a")
        self.put("watch.put", "watch/a", "3")
        self.events("watch.prefix", prefix, 4)
        self.events("watch.one", one, 1)
        cancel_one()
        cancel()
        history, cancel = self.client.watch_prefix_response("watch/", start_revision=start + 2)
        self.events("watch.history", history, 3)
        cancel()
        self.step("watch.compact", lambda: self.client.compact(start + 2))
        self.step("watch.compacted", lambda: self.compacted(start))
        self.step("watch.once", self.watch_once)

    def compacted(self, start):
        responses, cancel = self.client.watch_prefix_response("watch/", start_revision=start)
        self.events("watch.compacted-events", responses, 1)
        cancel()

    def watch_once(self):
        writer = threading.Timer(0.2, lambda: self.client.put("watch/once", "x"))
        writer.start()
        event = self.client.watch_once("watch/once", timeout=STEP_TIME_MAX)
        writer.join()
        return f"{type(event).__name__} {event.value.decode()}"

    def lease(self):
        lease = self.client.lease(60)
        say("lease.grant", lease.ttl)
        self.put("lease.put", "lease/a", "1", lease=lease)
        self.prefix("lease.get", "lease/")
        self.step("lease.left", lambda: (lease.granted_ttl, lease.remaining_ttl > 50, lease.keys))
        self.step("lease.refresh", lambda: [answer.TTL for answer in lease.refresh()])
        self.step("lease.revoke", lease.revoke)
        self.prefix("lease.revoked", "lease/")
        self.step("lease.revoke-again", lease.revoke)
        self.step("lease.left-none", lambda: lease.remaining_ttl)
        self.step("lease.refresh-none", lambda: [answer.TTL for answer in lease.refresh()])
        short = self.client.lease(1)
        watch, cancel = self.client.watch_response("lease/short", prev_kv=True)
        self.put("lease.short", "lease/short", "x", lease=short)
        self.events("lease.expired", watch, 2)
        cancel()

    def lock(self):
        first, second = self.client.lock("name", ttl=20), self.client.lock("name", ttl=20)
        self.step("lock.first", lambda: (first.acquire(), first.is_acquired()))
        self.step("lock.second", lambda: (second.acquire(timeout=0), second.is_acquired()))
        self.step("lock.refresh", lambda: len(first.refresh()))
        self.step("lock.release", lambda: (first.release(), first.is_acquired()))
        self.step("lock.second-now", lambda: (second.acquire(), second.is_acquired()))
        self.step("lock.release-second", second.release)

    def maintenance(self):
        self.step("status", lambda: (self.client.status().leader.name,
                                     self.client.status().db_size > 0))
        self.step("members", lambda: [(m.name, len(m.peer_urls), len(m.client_urls))
                                      for m in self.client.members])
        self.step("alarms", lambda: len(list(self.client.list_alarms())))
        self.step("defragment", self.client.defragment)
        self.step("hash", lambda: self.client.hash() == self.client.hash())
        self.step("snapshot", self.snapshot)

    def snapshot(self):
        file = io.BytesIO()
        self.client.snapshot(file)
        data = file.getvalue()
        return f"a database {data[16:18] == bytes([0xed, 0xda])} with a hash {len(data) % 512 == 32}"

    def errors(self):
        self.put("error.empty-key", "", "x")
        self.put("error.lease", "error", "x", lease=404)
        self.step("error.compacted", lambda: self.client.compact(1))
        self.step("error.future", lambda: self.client.compact(99999))
        self.step("error.large", lambda: self.client.put("error/large", "x" * 1600 * 1024))
        self.step("error.member", lambda: self.client.remove_member(404))

    def faults(self):
        """This library reports a broken stream; its users watch again from where they were."""
        host, port = host_and_port("RELAY")
        options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)]
        client = etcd3.client(host=host, port=port, timeout=STEP_TIME_MAX, grpc_options=options)
        start = self.now() + 1
        watch, _ = client.watch_prefix_response("faults/", start_revision=start)
        self.put("faults.before", "faults/before", "1")
        told = self.events("faults.before", watch, 1)
        ask("cut faults/cut 5")
        say("faults.broken", isinstance(told.get(timeout=STEP_TIME_MAX), Exception))
        watch = self.again(client, start + 1)
        told = self.events("faults.cut", watch, 5)
        ask("restart")
        say("faults.broken", isinstance(told.get(timeout=STEP_TIME_MAX), Exception))
        # The connection may still wait before it tries again.
        put = retried(lambda: self.client.put("faults/after", "1"))
        say("faults.after", self.base.rev(put.header.revision))
        self.events("faults.restart", self.again(client, start + 6), 1)

    def again(self, client, revision):
        watch = retried(lambda: client.watch_prefix_response("faults/", start_revision=revision))
        return watch[0]


def retried(call):
    """The result of a call that fails until the server is back."""
    for _ in range(100):
        try:
            return call()
        except (etcd3.exceptions.Etcd3Exception, grpc.RpcError):
            threading.Event().wait(0.1)
    raise TimeoutError("the server does not come back")


def main():
    steps = Steps()
    for part in (steps.kv, steps.txn, steps.watch, steps.lease, steps.lock, steps.maintenance,
                 steps.errors, steps.faults):
        part()
    say("end", "ok")


main()
