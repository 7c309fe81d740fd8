import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.election.LeaderKey;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Steps of the library jetcd, a line for each: no ids or times, and revisions counted from the first
 * step. A line that begins with @ asks the driver for a fault.
 */
public final class Steps {
    private static final long STEP_TIME_MAX_S = 15;
    private static final BufferedReader ANSWERS =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    private final String server = System.getenv("ENDPOINT");
    private final Client client = connect("http://" + server);
    private final KV kv = client.getKVClient();
    private long base;

    public static void main(String[] arguments) throws Exception {
        Steps steps = new Steps();
        steps.base = steps.now();
        steps.endpoints();
        steps.keys();
        steps.transactions();
        steps.watches();
        steps.leases();
        steps.maintenance();
        steps.errors();
        steps.faults();
        steps.locks();
        steps.elections();
        say("end", "ok");
        System.exit(0);
    }

    private static Client connect(String... endpoints) {
        return Client.builder().endpoints(endpoints).build();
    }

    private static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    private static <T> T get(CompletableFuture<T> future) throws Exception {
        try {
            return future.get(STEP_TIME_MAX_S, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            throw error.getCause() instanceof Exception cause ? cause : error;
        }
    }

    private static void say(String step, Object said) {
        System.out.println(step + ": " + said);
        System.out.flush();
    }

    private static void step(String name, Callable<?> call) {
        try {
            say(name, call.call());
        } catch (Exception error) {
            say(name, errorText(error));
        }
    }

    private static String errorText(Throwable error) {
        return "error " + error.getClass().getSimpleName() + " " + error.getMessage();
    }

    private static void ask(String fault) throws Exception {
        System.out.println("@" + fault);
        System.out.flush();
        if (ANSWERS.readLine() == null) {
            throw new IllegalStateException("the driver is gone");
        }
    }

    private String rev(long revision) {
        return revision == 0 ? "0" : String.format("%+d", revision - base);
    }

    private String pair(KeyValue kv) {
        if (kv == null || kv.getKey().isEmpty()) {
            return "none";
        }
        return kv.getKey() + "=" + kv.getValue() + " created " + rev(kv.getCreateRevision())
                + " modified " + rev(kv.getModRevision()) + " version " + kv.getVersion()
                + (kv.getLease() == 0 ? "" : " leased");
    }

    private String pairs(List<KeyValue> kvs) {
        return kvs.stream().map(this::pair).collect(Collectors.joining("; ", "[", "]"));
    }

    private String found(GetResponse answer) {
        return "at " + rev(answer.getHeader().getRevision()) + " count " + answer.getCount()
                + " more " + answer.isMore() + " " + pairs(answer.getKvs());
    }

    private long now() throws Exception {
        return get(kv.get(bytes("now"))).getHeader().getRevision();
    }

    private void put(String name, String key, String value) {
        put(name, key, value, PutOption.builder().withPrevKV().build());
    }

    private void put(String name, String key, String value, PutOption option) {
        step(name, () -> {
            var answer = get(kv.put(bytes(key), bytes(value), option));
            String before = answer.hasPrevKv() ? pair(answer.getPrevKv()) : "none";
            return "at " + rev(answer.getHeader().getRevision()) + " before " + before;
        });
    }

    private void get(String name, String key, GetOption.Builder option) {
        step(name, () -> found(get(kv.get(bytes(key), option.build()))));
    }

    private void delete(String name, String key, boolean isPrefix) {
        step(name, () -> {
            var option = DeleteOption.builder().isPrefix(isPrefix).withPrevKV(true).build();
            var answer = get(kv.delete(bytes(key), option));
            return "at " + rev(answer.getHeader().getRevision()) + " deleted " + answer.getDeleted()
                    + " " + pairs(answer.getPrevKvs());
        });
    }

    private void endpoints() {
        String dead = System.getenv("DEAD");
        String[][] forms = {{"http://" + server}, {"http://" + dead, "http://" + server}};
        for (String[] form : forms) {
            step("endpoint." + form.length, () -> {
                try (Client other = connect(form)) {
                    get(other.getKVClient().put(bytes("endpoint"), bytes("x")));
                    return pairs(get(other.getKVClient().get(bytes("endpoint"))).getKvs());
                }
            });
        }
    }

    private void keys() {
        for (int at = 0; at < 5; at++) {
            put("kv.put", "kv/" + at, "v" + (9 - at));
        }
        put("kv.again", "kv/3", "new");
        get("kv.get", "kv/3", GetOption.builder());
        get("kv.absent", "kv/absent", GetOption.builder());
        get("kv.prefix", "kv/", GetOption.builder().isPrefix(true));
        get("kv.limit", "kv/", GetOption.builder().isPrefix(true).withLimit(2));
        get("kv.count", "kv/", GetOption.builder().isPrefix(true).withCountOnly(true));
        get("kv.keys", "kv/", GetOption.builder().isPrefix(true).withKeysOnly(true));
        get("kv.range", "kv/1", GetOption.builder().withRange(bytes("kv/4")));
        get("kv.old", "kv/3", GetOption.builder().withRevision(base + 6));
        get("kv.modified", "kv/", GetOption.builder().isPrefix(true)
                .withMinModRevision(base + 4).withMaxModRevision(base + 6));
        for (var target : GetOption.SortTarget.values()) {
            for (var order : new GetOption.SortOrder[] {
                GetOption.SortOrder.ASCEND, GetOption.SortOrder.DESCEND}) {
                get("kv.sort-" + target + "-" + order, "kv/", GetOption.builder().isPrefix(true)
                        .withSortField(target).withSortOrder(order));
            }
        }
        delete("kv.delete", "kv/3", false);
        delete("kv.delete-absent", "kv/3", false);
        delete("kv.delete-prefix", "kv/", true);
    }

    private static Cmp is(String key, Cmp.Op op, CmpTarget<?> target) {
        return new Cmp(bytes(key), op, target);
    }

    private static Op putOp(String key, String value) {
        return Op.put(bytes(key), bytes(value), PutOption.DEFAULT);
    }

    private static Op getOp(String key) {
        return Op.get(bytes(key), GetOption.builder().isPrefix(true).build());
    }

    private void run(String name, Cmp[] compares, Op[] then, Op[] otherwise) {
        step(name, () -> {
            TxnResponse answer =
                    get(kv.txn().If(compares).Then(then).Else(otherwise).commit());
            return "at " + rev(answer.getHeader().getRevision()) + " succeeded "
                    + answer.isSucceeded() + " puts " + answer.getPutResponses().size() + " gets "
                    + answer.getGetResponses().stream().map(got -> pairs(got.getKvs())).toList()
                    + " deletes " + answer.getDeleteResponses().size() + " txns "
                    + answer.getTxnResponses().stream().map(TxnResponse::isSucceeded).toList();
        });
    }

    private void transactions() {
        Cmp[] absent = {is("txn/a", Cmp.Op.EQUAL, CmpTarget.createRevision(0))};
        Op[] none = {};
        run("txn.create", absent, new Op[] {putOp("txn/a", "1"), getOp("txn/")}, none);
        run("txn.create-again", absent, none, new Op[] {getOp("txn/")});
        run("txn.compare", new Cmp[] {
            is("txn/a", Cmp.Op.EQUAL, CmpTarget.value(bytes("1"))),
            is("txn/a", Cmp.Op.GREATER, CmpTarget.version(0)),
            is("txn/a", Cmp.Op.LESS, CmpTarget.modRevision(base + 9999)),
        }, new Op[] {putOp("txn/a", "2"), putOp("txn/b", "3")}, none);
        run("txn.nested", new Cmp[] {}, new Op[] {
            Op.txn(new Cmp[] {is("txn/a", Cmp.Op.EQUAL, CmpTarget.value(bytes("2")))},
                    new Op[] {putOp("txn/in", "1")}, none),
            getOp("txn/"),
        }, none);
        run("txn.delete", new Cmp[] {},
                new Op[] {Op.delete(bytes("txn/b"), DeleteOption.DEFAULT)}, none);
        run("txn.twice", new Cmp[] {}, new Op[] {putOp("txn/a", "1"), putOp("txn/a", "2")}, none);
    }

    /** The events of a watch, and its errors, as lines. */
    private final class Told {
        private final BlockingQueue<String> lines = new LinkedBlockingQueue<>();
        private final Watch.Watcher watcher;
        private final boolean isRelayed;

        Told(Client client, String key, WatchOption option) {
            isRelayed = client != Steps.this.client;
            watcher = client.getWatchClient().watch(bytes(key), option, answer ->
                    answer.getEvents().forEach(event -> lines.add(event.getEventType() + " "
                            + pair(event.getKeyValue()) + " before " + pair(event.getPrevKV()))),
                    error -> lines.add(errorText(error)));
        }

        void print(String name, int count) throws InterruptedException {
            for (int seen = 0; seen < count; seen++) {
                String line = lines.poll(STEP_TIME_MAX_S, TimeUnit.SECONDS);
                // The library reports that it lost the connection, and watches on.
                while (isRelayed && line != null && line.startsWith("error ")) {
                    line = lines.poll(STEP_TIME_MAX_S, TimeUnit.SECONDS);
                }
                if (line == null) {
                    say(name, "no more events after " + seen + " of " + count);
                    return;
                }
                say(name, line);
            }
        }
    }

    private WatchOption from(long revision) {
        return WatchOption.builder().isPrefix(true).withPrevKV(true).withRevision(revision).build();
    }

    private void watches() throws Exception {
        long start = now();
        Told all = new Told(client, "watch/", from(start + 1));
        Told deletes = new Told(client, "watch/", WatchOption.builder().isPrefix(true)
                .withRevision(start + 1).withNoPut(true).build());
        put("watch.put", "watch/a", "1");
        put("watch.put", "watch/b", "2");
        delete("watch.delete", "watch/", true);
        put("watch.put", "watch/a", "3");
        all.print("watch.prefix", 5);
        deletes.print("watch.deletes", 2);
        all.watcher.close();
        new Told(client, "watch/", from(start + 2)).print("watch.history", 4);
        step("watch.compact",
                () -> rev(get(kv.compact(start + 3)).getHeader().getRevision()));
        new Told(client, "watch/", from(start + 1)).print("watch.compacted", 1);
        // A closed watch gets nothing; the other ones of the stream go on.
        put("watch.put", "watch/a", "4");
        delete("watch.delete", "watch/", true);
        deletes.print("watch.deletes-again", 1);
        say("watch.closed", all.lines.size());
    }

    private long grant(long ttl) throws Exception {
        return get(client.getLeaseClient().grant(ttl)).getID();
    }

    private void leases() throws Exception {
        var lease = client.getLeaseClient();
        long id = grant(60);
        put("lease.put", "lease/a", "1", PutOption.builder().withLeaseId(id).build());
        get("lease.get", "lease/", GetOption.builder().isPrefix(true));
        step("lease.left", () -> {
            var answer = get(lease.timeToLive(id, LeaseOption.builder().withAttachedKeys().build()));
            return answer.getGrantedTTL() + " " + (answer.getTTL() > 50) + " " + answer.getKeys();
        });
        step("lease.once", () -> get(lease.keepAliveOnce(id)).getTTL());
        step("lease.keep-alive", () -> {
            CompletableFuture<Long> first = new CompletableFuture<>();
            try (var alive = lease.keepAlive(id, new StreamObserver<LeaseKeepAliveResponse>() {
                public void onNext(LeaseKeepAliveResponse answer) {
                    first.complete(answer.getTTL());
                }

                public void onError(Throwable error) {
                    first.completeExceptionally(error);
                }

                public void onCompleted() {}
            })) {
                return get(first);
            }
        });
        step("lease.revoke", () -> rev(get(lease.revoke(id)).getHeader().getRevision()));
        get("lease.revoked", "lease/", GetOption.builder().isPrefix(true));
        step("lease.revoke-again", () -> get(lease.revoke(id)));
        step("lease.once-none", () -> get(lease.keepAliveOnce(id)).getTTL());
        Told told = new Told(client, "lease/short", from(now() + 1));
        long brief = grant(1);
        put("lease.short", "lease/short", "x", PutOption.builder().withLeaseId(brief).build());
        told.print("lease.expired", 2);
    }

    private void locks() throws Exception {
        var lock = client.getLockClient();
        long first = grant(30);
        long second = grant(30);
        step("lock.first", () -> {
            String key = get(lock.lock(bytes("lock"), first)).getKey().toString();
            return key.startsWith("lock/");
        });
        CompletableFuture<?> waiting = lock.lock(bytes("lock"), second);
        step("lock.waits", waiting::isDone);
        step("lock.release", () -> get(client.getLeaseClient().revoke(first)) != null);
        step("lock.second", () -> get(waiting) != null);
        step("lock.end", () -> get(client.getLeaseClient().revoke(second)) != null);
        step("lock.no-lease", () -> get(lock.lock(bytes("lock"), 404)));
    }

    private void elections() throws Exception {
        Election election = client.getElectionClient();
        ByteSequence name = bytes("election");
        long first = grant(30);
        long second = grant(30);
        step("election.nobody", () -> get(election.leader(name)));
        List<LeaderKey> won = new ArrayList<>();
        step("election.first", () -> {
            won.add(get(election.campaign(name, first, bytes("one"))).getLeader());
            return get(election.leader(name)).getKv().getValue();
        });
        step("election.proclaim", () -> {
            get(election.proclaim(won.get(0), bytes("again")));
            return get(election.leader(name)).getKv().getValue();
        });
        CompletableFuture<?> waiting = election.campaign(name, second, bytes("two"));
        step("election.resign", () -> get(election.resign(won.get(0))) != null);
        step("election.second", () -> {
            get(waiting);
            return get(election.leader(name)).getKv().getValue();
        });
    }

    private void maintenance() {
        var maintenance = client.getMaintenanceClient();
        String url = "http://" + server;
        step("status", () -> {
            var status = get(maintenance.statusMember(url));
            return (status.getLeader() == status.getHeader().getMemberId()) + " learner "
                    + status.isLearner() + " errors " + status.getErrorList() + " size "
                    + (status.getDbSize() > 0);
        });
        step("members", () -> get(client.getClusterClient().listMember()).getMembers().stream()
                .map(member -> member.getName() + " " + member.getPeerURIs().size() + " "
                        + member.getClientURIs().size()).toList());
        step("alarms", () -> get(maintenance.listAlarms()).getAlarms().size());
        step("defragment", () -> get(maintenance.defragmentMember(url)) != null);
        step("hash", () -> get(maintenance.hashKV(url, 0)).getHash()
                == get(maintenance.hashKV(url, 0)).getHash());
        step("snapshot", () -> {
            var out = new ByteArrayOutputStream();
            get(maintenance.snapshot(out));
            byte[] data = out.toByteArray();
            return "a database " + (data[16] == (byte) 0xed && data[17] == (byte) 0xda)
                    + " with a hash " + (data.length % 512 == 32);
        });
    }

    private void errors() {
        put("error.empty-key", "", "x");
        put("error.lease", "error", "x", PutOption.builder().withLeaseId(404).build());
        get("error.compacted", "watch/a", GetOption.builder().withRevision(base + 1));
        get("error.future", "watch/a", GetOption.builder().withRevision(base + 99999));
        step("error.compact", () -> get(kv.compact(1)));
        put("error.large", "error", "x".repeat(1600 * 1024));
        step("error.member", () -> get(client.getClusterClient().removeMember(404)));
        step("error.grant", () -> grant(9_000_000_001L));
    }

    /** Puts a key to a server that was just started: the connection may still wait. */
    private String putAgain() throws Exception {
        for (int tries = 0; ; tries++) {
            try {
                var answer = get(kv.put(bytes("faults/after"), bytes("1")));
                return rev(answer.getHeader().getRevision());
            } catch (Exception error) {
                if (tries == 100) {
                    throw error;
                }
                Thread.sleep(100);
            }
        }
    }

    private void faults() throws Exception {
        Client relayed = connect("http://" + System.getenv("RELAY"));
        Told told = new Told(relayed, "faults/", from(now() + 1));
        put("faults.before", "faults/before", "1");
        told.print("faults.before", 1);
        ask("cut faults/cut 5");
        told.print("faults.cut", 5);
        ask("restart");
        step("faults.after", this::putAgain);
        told.print("faults.restart", 1);
        relayed.close();
    }
}
