# Functions of DSPexTelemetry.Native, their arguments, and what kind of term they return; a tuple by its first item.
# `native`, `plan`, `now`, `cache` and `snapshot` are of the instance that is tried.
limits = {100, 1_000_000}

[
  {:record, [plan, 1_000, 64, "ref-1", "search", true, false, "Index", "worker-1"], :ok},
  {:record, [plan, 2_000, 64, :ref, 1, false, true, "Index", "worker-1"], :ok},
  {:report, [native, :since_start, now], :map},
  {:report_json, [native, :since_start, now], :binary},
  {:page_json, [native, %{instance: "Fuzz", attached: true, methods: 10}, :since_start, now],
   :binary},
  {:performance, [native, :since_start, now], :map},
  {:errors, [native, :since_start, now], :map},
  {:usage, [native, 10, now], :map},
  {:usage_in_window, [native, 10, :since_start, now], :map},
  {:declare, [native, :tool, ["stem", "lookup"]], :ok},
  {:histogram, [native, "dspex_bridge_call_method_duration", ["search", "Index"]], :ok},
  {:otlp_accepted, [<<10, 5, 8, 17, 18, 1, ?x>>], :ok},
  {:otlp_refused, [<<8, 3, 18, 1, ?x>>], :ok},
  {:cluster_snapshot, [native, :since_start, now, limits], :ok},
  {:cluster_report, [[{"a@host", :ok, snapshot}, {"b@host", :timeout, "late"}], limits, now],
   :tuple},
  {:cluster_report_json, [[{"a@host", :ok, snapshot}, {"b@host", :failed, nil}], limits, now],
   :binary},
  {:cluster_errors, [[{"a@host", :ok, snapshot}], limits, now], :tuple},
  {:cluster_usage, [[{"a@host", :ok, snapshot}], limits, now, 10], :tuple},
  {:put_workers, [native, ["worker-1", :worker_2, 3]], :tuple},
  {:bind_to_worker, [native, "session", "worker-1"], true},
  {:explain_routing, [native, "search"], :map},
  {:keep,
   [
     plan,
     1,
     [1_000, 64, "ref-1", "search", true, false, "Index", "worker-1"],
     ["t", "s", "c", "e", "w", "r", "m"],
     false
   ], :ok},
  {:cache_get, [cache, "search", "Index", "", [1, %{"k" => 2.5}, {:a, "b"}]], :miss},
  {:cache_invalidate, [cache, :method, "search", "Index"], :ok}
]
