%% @doc Events and the functions that listen to them.
%%
%% A handler is attached to event names under an id; whoever emits one of those
%% events runs it, in their own process, before `execute/3' returns.
%%
%% This is a stand-in for the telemetry library, see the README next to it.
-module(telemetry).

-export([attach/4, attach_many/4, detach/1, list_handlers/1, persist/0]).
-export([execute/2, execute/3, span/3]).
-export([report_cb/1]).

-export_type([
    event_measurements/0,
    event_metadata/0,
    event_name/0,
    event_prefix/0,
    event_value/0,
    handler/0,
    handler_config/0,
    handler_function/0,
    handler_id/0,
    span_function/0,
    span_result/0
]).

-include_lib("kernel/include/logger.hrl").
-include("telemetry_entry.hrl").

-define(LOG_METADATA, #{domain => [telemetry], report_cb => fun ?MODULE:report_cb/1}).

-type event_name() :: [atom(), ...].
-type event_prefix() :: [atom()].
-type event_measurements() :: map().
-type event_metadata() :: map().
-type event_value() :: number().
-type handler_id() :: term().
-type handler_config() :: term().
-type handler_function() :: fun(
    (event_name(), event_measurements(), event_metadata(), handler_config()) -> any()
).
-type handler() :: #{
    id := handler_id(),
    event_name := event_name(),
    function := handler_function(),
    config := handler_config()
}.
-type span_result() :: term().
-type span_function() :: fun(
    () ->
        {span_result(), event_metadata()}
        | {span_result(), event_measurements(), event_metadata()}
).

%% @doc Attaches a handler to one event.
%%
%% Fails the way `attach_many/4' does.
-spec attach(handler_id(), event_name(), handler_function(), handler_config()) ->
    ok | {error, already_exists}.
attach(Id, EventName, Function, Config) ->
    attach_many(Id, [EventName], Function, Config).

%% @doc Attaches a handler to each of a list of events.
%%
%% Returns `{error, already_exists}', and attaches nothing, if the id is in use.
%% Raises `badarg' unless every event name is a non-empty list of atoms, and
%% `function_clause' if the function does not take four arguments. Exits if the
%% application is not started. The order in which the handlers of an event run
%% is not defined.
%%
%% A function that was not captured as `fun Module:Name/4' works, but is slower
%% to call and breaks when its module is reloaded, so it is logged at level info.
%%
%% A handler that raises, exits or throws is detached from all its events; the
%% emitter and the other handlers do not notice. After that
%% `[telemetry, handler, failure]' is emitted with the measurements
%% `monotonic_time' and `system_time' and the metadata `event_name',
%% `handler_id', `handler_config', `kind', `reason' and `stacktrace', and an
%% error is logged.
-spec attach_many(handler_id(), [event_name()], handler_function(), handler_config()) ->
    ok | {error, already_exists}.
attach_many(Id, EventNames, Function, Config) when is_function(Function, 4) ->
    Arguments = [Id, EventNames, Function, Config],
    is_list(EventNames) orelse erlang:error(badarg, Arguments),
    _ = [is_event_name(Name) orelse erlang:error(badarg, Arguments) || Name <- EventNames],
    note_if_local(Id, EventNames, Function, Config),
    telemetry_handler_table:add(Id, EventNames, Function, Config).

%% @doc Removes a handler from all its events.
%%
%% Returns `{error, not_found}' if nothing is attached under the id. Exits if
%% the application is not started.
-spec detach(handler_id()) -> ok | {error, not_found}.
detach(Id) ->
    telemetry_handler_table:remove(Id).

%% @doc Lists the handlers of all events that start with a prefix.
%%
%% The empty prefix lists everything. A handler appears once for each of its
%% events. Raises `badarg' if the prefix is not a list of atoms; returns `[]' if
%% the application is not started.
-spec list_handlers(event_prefix()) -> [handler()].
list_handlers(Prefix) ->
    is_atom_list(Prefix) orelse erlang:error(badarg, [Prefix]),
    lists:map(fun describe/1, telemetry_handler_table:for_prefix(Prefix)).

%% @doc Moves the handlers into a persistent term.
%%
%% Emitting events gets cheaper and each later attach or detach much dearer, so
%% call it once, when everything is attached. It lasts until the application
%% stops. Calling it again does nothing. Raises `badarg' if the application is
%% not started. Do not attach or detach from other processes while it runs.
-spec persist() -> ok.
persist() ->
    telemetry_handler_table:persist().

%% @doc Emits an event that has no metadata.
%%
%% Fails the way `execute/3' does.
-spec execute(event_name(), event_measurements() | event_value()) -> ok.
execute(EventName, Measurements) ->
    execute(EventName, Measurements, #{}).

%% @doc Emits an event: runs every handler attached to exactly this name.
%%
%% Always returns `ok', whatever the handlers do (see `attach_many/4'), and runs
%% nothing if the application is not started. Raises `function_clause' if the
%% event name is not a non-empty list or one of the other arguments not a map.
%%
%% A number in place of the measurements is deprecated: it is passed on as
%% `#{value => Number}' and a warning is logged.
-spec execute(event_name(), event_measurements() | event_value(), event_metadata()) -> ok.
execute(EventName, Number, Metadata) when is_number(Number) ->
    ?LOG_WARNING(#{event_name => EventName}, ?LOG_METADATA),
    execute(EventName, #{value => Number}, Metadata);
execute([_ | _] = EventName, Measurements, Metadata) when
    is_map(Measurements), is_map(Metadata)
->
    run(telemetry_handler_table:for_event(EventName), EventName, Measurements, Metadata).

%% @doc Runs a function and emits one event before it and one after it.
%%
%% The function returns `{Result, StopMetadata}' or
%% `{Result, ExtraMeasurements, StopMetadata}'; the span returns the result. The
%% last segment of the event name, and what comes with each, are
%% <ul>
%% <li>`start': `monotonic_time' and `system_time', with the start metadata;</li>
%% <li>`stop': `duration' and `monotonic_time' over any extra measurements, with
%% the stop metadata and nothing of the start metadata;</li>
%% <li>`exception': `duration' and `monotonic_time', with the start metadata and
%% `kind', `reason' and `stacktrace' over it.</li>
%% </ul>
%% Metadata that lacks `telemetry_span_context' is given one, a reference that
%% is the same for all events of the span.
%%
%% What the function raises, exits with or throws is raised again, unchanged,
%% after the exception event. If it returns anything else than the two tuples,
%% `{try_clause, Returned}' is raised and no second event is emitted.
-spec span(event_prefix(), event_metadata(), span_function()) -> span_result().
span(Prefix, StartMetadata, Function) ->
    Started = erlang:monotonic_time(),
    Context = erlang:make_ref(),
    execute(
        Prefix ++ [start],
        #{monotonic_time => Started, system_time => erlang:system_time()},
        in_context(StartMetadata, Context)
    ),
    try Function() of
        {Result, StopMetadata} ->
            execute(Prefix ++ [stop], since(Started), in_context(StopMetadata, Context)),
            Result;
        {Result, Extra, StopMetadata} ->
            Measurements = maps:merge(Extra, since(Started)),
            execute(Prefix ++ [stop], Measurements, in_context(StopMetadata, Context)),
            Result
    catch
        Kind:Reason:Stacktrace ->
            Measurements = since(Started),
            Failure = StartMetadata#{kind => Kind, reason => Reason, stacktrace => Stacktrace},
            execute(Prefix ++ [exception], Measurements, in_context(Failure, Context)),
            erlang:raise(Kind, Reason, Stacktrace)
    end.

%% @private
%% Turns the reports this module logs into text.
-spec report_cb(logger:report()) -> {io:format(), [term()]}.
report_cb(#{handler_id := Id, kind := Kind, reason := Reason, stacktrace := Stacktrace}) ->
    {"telemetry detached handler ~tp because it failed~nkind: ~tp~nreason: ~tp~nstacktrace: ~tp", [
        Id, Kind, Reason, Stacktrace
    ]};
report_cb(#{handler_id := Id}) ->
    {
        "telemetry handler ~tp is an anonymous or local function; "
        "capturing it with its module name makes it faster to call",
        [Id]
    };
report_cb(#{event_name := EventName}) ->
    {
        "telemetry event ~tp was executed with a number, which is deprecated; "
        "give a map of measurements",
        [EventName]
    }.

run([], _EventName, _Measurements, _Metadata) ->
    ok;
run([#entry{id = Id, function = Function, config = Config} | Rest], EventName, Measurements, Metadata) ->
    try
        Function(EventName, Measurements, Metadata, Config)
    catch
        Kind:Reason:Stacktrace ->
            drop_failed(Id, Config, EventName, {Kind, Reason, Stacktrace})
    end,
    run(Rest, EventName, Measurements, Metadata).

%% Detaching comes first: a handler that listens to failures and fails cannot
%% be called for its own failure.
drop_failed(Id, Config, EventName, {Kind, Reason, Stacktrace}) ->
    _ = detach(Id),
    execute(
        [telemetry, handler, failure],
        #{monotonic_time => erlang:monotonic_time(), system_time => erlang:system_time()},
        #{
            event_name => EventName,
            handler_id => Id,
            handler_config => Config,
            kind => Kind,
            reason => Reason,
            stacktrace => Stacktrace
        }
    ),
    ?LOG_ERROR(
        #{handler_id => Id, kind => Kind, reason => Reason, stacktrace => Stacktrace},
        ?LOG_METADATA
    ).

note_if_local(Id, EventNames, Function, Config) ->
    IsLocal = erlang:fun_info(Function, type) =:= {type, local},
    Report = #{
        type => local,
        handler_id => Id,
        function => Function,
        event_names => EventNames,
        config => Config
    },
    IsLocal andalso ?LOG_INFO(Report, ?LOG_METADATA).

describe(#entry{event_name = EventName, id = Id, function = Function, config = Config}) ->
    #{id => Id, event_name => EventName, function => Function, config => Config}.

is_event_name(Name) ->
    Name =/= [] andalso is_atom_list(Name).

is_atom_list(Term) ->
    is_list(Term) andalso lists:all(fun erlang:is_atom/1, Term).

since(Started) ->
    Now = erlang:monotonic_time(),
    #{duration => Now - Started, monotonic_time => Now}.

in_context(#{telemetry_span_context := _} = Metadata, _Context) ->
    Metadata;
in_context(Metadata, Context) ->
    Metadata#{telemetry_span_context => Context}.
