import DSPexTelemetry.Native.Module

defnative DSPexTelemetry.Native do
  @moduledoc false
  # Stubs of the Rust library, nothing else. What the functions do is written in native/nif.

  # The compiler would load it when there is no library yet, which the VM then complains about at length.
  @compile {:autoload, false}

  @on_load :load

  @doc false
  def load do
    path = :filename.join(:code.priv_dir(:dspex_telemetry), ~c"native/telemetry_nif")
    start = System.convert_time_unit(:erlang.system_info(:start_time), :native, :nanosecond)
    :erlang.load_nif(path, {:erlang.system_info(:schedulers), start})
  end

  @type instance :: reference()
  @type plan :: pos_integer()
  @type outcome :: :ok | (notes :: pos_integer()) | :rejected | :stopped | :panicked

  @type window :: DSPexTelemetry.Window.native()
  @type moment :: {now_ms :: non_neg_integer(), unix_ms :: integer()}

  @spec start(map()) :: {:ok, instance(), [plan()]} | {:error, String.t()}
  def start(_definition), do: not_loaded()

  @spec stop(instance()) :: :ok
  def stop(_instance), do: not_loaded()

  @spec reset(instance(), moment()) :: :ok
  def reset(_instance, _now), do: not_loaded()

  @spec tick(instance(), moment()) :: :ok
  def tick(_instance, _now), do: not_loaded()

  @spec end_slice(instance(), moment()) :: :ok
  def end_slice(_instance, _now), do: not_loaded()

  @spec demand_signals(instance(), pid()) :: :ok
  def demand_signals(_instance, _pid), do: not_loaded()

  @spec retire_idle(instance(), moment(), non_neg_integer()) :: non_neg_integer()
  def retire_idle(_instance, _now, _timeout_ms), do: not_loaded()

  @spec info(instance()) :: map()
  def info(_instance), do: not_loaded()

  @spec report(instance(), window(), moment()) :: map()
  def report(_instance, _window, _now), do: not_loaded()

  @spec report_json(instance(), window(), moment()) :: String.t()
  def report_json(_instance, _window, _now), do: not_loaded()

  @spec page_json(instance(), map(), window(), moment()) :: String.t()
  def page_json(_instance, _wanted, _window, _now), do: not_loaded()

  @spec performance(instance(), window(), moment()) :: map()
  def performance(_instance, _window, _now), do: not_loaded()

  @spec errors(instance(), window(), moment()) :: map()
  def errors(_instance, _window, _now), do: not_loaded()

  @spec usage(instance(), non_neg_integer(), moment()) :: map()
  def usage(_instance, _top, _now), do: not_loaded()

  @spec usage_in_window(instance(), non_neg_integer(), window(), moment()) :: map()
  def usage_in_window(_instance, _top, _window, _now), do: not_loaded()

  @spec declare(instance(), :class | :tool, [String.t()]) :: :ok | {:error, String.t()}
  def declare(_instance, _kind, _names), do: not_loaded()

  @spec usage_open(instance(), String.t(), String.t()) ::
          {:ok, %{path: String.t(), why: String.t()} | nil} | {:error, String.t()}
  def usage_open(_instance, _path, _owner), do: not_loaded()

  @spec usage_save(instance(), moment()) :: :ok | {:error, :no_path | String.t()}
  def usage_save(_instance, _now), do: not_loaded()

  @spec usage_close(instance(), moment()) :: :ok | {:error, String.t()}
  def usage_close(_instance, _now), do: not_loaded()

  @spec panics() :: non_neg_integer()
  def panics, do: not_loaded()

  @spec scrape(instance(), map()) :: binary()
  def scrape(_instance, _scrape), do: not_loaded()

  @spec otlp_export(instance(), map(), moment()) ::
          {request :: binary(), data_points :: non_neg_integer()}
  def otlp_export(_instance, _export, _now), do: not_loaded()

  @spec otlp_settle(instance()) :: :ok
  def otlp_settle(_instance), do: not_loaded()

  @spec otlp_accepted(binary()) ::
          {:ok, {rejected_data_points :: non_neg_integer(), String.t()}} | {:error, :error}
  def otlp_accepted(_body), do: not_loaded()

  @spec otlp_refused(binary()) :: {:ok, String.t()} | {:error, :error}
  def otlp_refused(_body), do: not_loaded()

  @spec keep(plan(), notes :: pos_integer(), [term()], [binary()], boolean()) :: :ok
  def keep(_plan, _notes, _fields, _details, _callers_fault?), do: not_loaded()

  @spec forget_worker(instance(), String.t()) :: :ok
  def forget_worker(_instance, _id), do: not_loaded()

  @type outcome_of_request :: :success | :failure | :unknown
  @type routed ::
          {:ok, String.t()} | {:error, :no_workers} | :not_running | :invalid_command | :panicked

  @spec publish_router(instance(), atom()) :: :ok
  def publish_router(_instance, _name), do: not_loaded()

  @spec route(atom(), term(), term()) :: routed()
  def route(_name, _command, _key), do: not_loaded()

  @spec checkout(atom(), term(), term()) ::
          {:ok, reference(), String.t()} | {:error, :no_workers} | :not_running | :invalid_command
  def checkout(_name, _command, _key), do: not_loaded()

  @spec complete(reference(), outcome_of_request(), non_neg_integer() | nil) ::
          :ok | :completed | :worker_gone | :stopped
  def complete(_ticket, _outcome, _duration_ns), do: not_loaded()

  @spec put_workers(instance(), [term()]) ::
          {added :: non_neg_integer(), removed :: non_neg_integer(), refused :: non_neg_integer()}
  def put_workers(_instance, _ids), do: not_loaded()

  @spec bind_to_worker(instance(), term(), term()) :: boolean()
  def bind_to_worker(_instance, _key, _worker_id), do: not_loaded()

  @spec explain_routing(instance(), term()) :: map()
  def explain_routing(_instance, _command), do: not_loaded()

  @spec router_report(instance()) :: map()
  def router_report(_instance), do: not_loaded()

  @type cluster_limits :: {series :: pos_integer(), bytes :: pos_integer()}
  @type cluster_answer ::
          {node :: String.t(), :ok, binary()}
          | {node :: String.t(), state :: atom(), reason :: String.t() | nil}

  @spec cluster_snapshot(instance(), window(), moment(), cluster_limits()) ::
          {:ok, binary()} | {:error, {state :: atom(), reason :: String.t()}}
  def cluster_snapshot(_instance, _window, _now, _limits), do: not_loaded()

  @spec cluster_report([cluster_answer()], cluster_limits(), moment()) :: {map(), [map()]}
  def cluster_report(_answers, _limits, _now), do: not_loaded()

  @spec cluster_report_json([cluster_answer()], cluster_limits(), moment()) :: String.t()
  def cluster_report_json(_answers, _limits, _now), do: not_loaded()

  @spec cluster_errors([cluster_answer()], cluster_limits(), moment()) ::
          {{map(), [map()]}, [{String.t(), map()}], [{String.t(), map()}], [{String.t(), map()}]}
  def cluster_errors(_answers, _limits, _now), do: not_loaded()

  @spec cluster_usage([cluster_answer()], cluster_limits(), moment(), non_neg_integer()) ::
          {map(), [map()]}
  def cluster_usage(_answers, _limits, _now, _top), do: not_loaded()

  @spec cluster_format() :: pos_integer()
  def cluster_format, do: not_loaded()

  @spec histogram(instance(), String.t(), [String.t()]) ::
          {:ok, binary(), binary()} | {:error, :not_found}
  def histogram(_instance, _metric, _labels), do: not_loaded()

  @type cache :: non_neg_integer()
  @type flight :: pos_integer()
  @type text :: binary() | atom() | integer()
  @type uncacheable :: {:uncacheable, :too_large | :too_deep | :function | :bit_string | :no_text}

  @spec cache_open(instance()) :: cache()
  def cache_open(_instance), do: not_loaded()

  @spec cache_get(cache(), text(), text(), text(), term()) ::
          {:ok, term()} | {:encoded, binary()} | :miss | :uncacheable | :stopped
  def cache_get(_cache, _method, _class, _ref, _args), do: not_loaded()

  @type made_call ::
          {{method :: text(), class :: text(), ref :: text(), args :: term()}, worker :: text(),
           declared :: boolean()}

  @spec cache_enter(cache(), made_call(), reference()) ::
          {:run | :wait, flight()}
          | {:ok, term()}
          | {:encoded, binary()}
          | :undeclared
          | :circular
          | :crowded
          | :stopped
          | uncacheable()
  def cache_enter(_cache, _call, _tag), do: not_loaded()

  @spec cache_prepare(cache(), flight(), non_neg_integer(), non_neg_integer()) ::
          :ok | :landed | :stopped
  def cache_prepare(_cache, _flight, _size, _duration_ns), do: not_loaded()

  @spec cache_land(cache(), flight(), binary(), boolean(), non_neg_integer()) ::
          :ok | :dirty | :stopped
  def cache_land(_cache, _flight, _result, _error?, _duration_ns), do: not_loaded()

  @spec cache_land_dirty(cache(), flight(), binary(), boolean(), non_neg_integer()) ::
          :ok | :stopped
  def cache_land_dirty(_cache, _flight, _result, _error?, _duration_ns), do: not_loaded()

  @spec cache_fail(cache(), flight(), binary(), non_neg_integer()) :: :ok | :dirty | :stopped
  def cache_fail(_cache, _flight, _reason, _duration_ns), do: not_loaded()

  @spec cache_fail_dirty(cache(), flight(), binary(), non_neg_integer()) :: :ok | :stopped
  def cache_fail_dirty(_cache, _flight, _reason, _duration_ns), do: not_loaded()

  @spec cache_leave(cache(), flight()) :: boolean()
  def cache_leave(_cache, _flight), do: not_loaded()

  @type kept ::
          {:kept, ttl_ms :: pos_integer()}
          | {:refused, String.t()}
          | :undeclared
          | :failed
          | :too_large
          | :invalidated
          | :stopped
          | uncacheable()

  @spec cache_put(
          cache(),
          made_call(),
          since :: non_neg_integer() | nil,
          result :: binary(),
          error? :: boolean(),
          duration_ns :: non_neg_integer() | nil
        ) :: kept()
  def cache_put(_cache, _call, _since, _result, _error?, _duration_ns), do: not_loaded()

  @spec cache_now(cache()) :: non_neg_integer()
  def cache_now(_cache), do: not_loaded()

  @spec cache_invalidate_key(cache(), text(), text(), text(), term()) :: :ok | :stopped
  def cache_invalidate_key(_cache, _method, _class, _ref, _args), do: not_loaded()

  @spec cache_invalidate(cache(), :all | :method | :reference | :worker, text(), text()) ::
          :ok | :stopped
  def cache_invalidate(_cache, _what, _name, _class), do: not_loaded()

  @spec cache_report(cache()) :: {map(), non_neg_integer(), non_neg_integer()} | :stopped
  def cache_report(_cache), do: not_loaded()

  @type observed :: :ok | :untold | :stopped | :panicked

  @spec observe(plan(), term(), term()) :: observed()
  def observe(_plan, _measurements, _metadata), do: not_loaded()

  @spec observe(plan(), term(), term(), tuple()) :: observed()
  def observe(_plan, _measurements, _metadata, _computed), do: not_loaded()

  @spec observe(plan(), term(), term(), tuple(), :final) :: observed()
  def observe(_plan, _measurements, _metadata, _computed, _final), do: not_loaded()

  for arity <- 1..10 do
    arguments = Macro.generate_arguments(arity, __MODULE__)
    def record(unquote_splicing(arguments)), do: not_loaded({unquote_splicing(arguments)})
  end

  defp not_loaded(_arguments \\ {}), do: :erlang.nif_error(:not_loaded)
end
