%% @private
%% Where handlers are kept, and who may change them.
%%
%% A persistent term says which store is current: its module, the function that
%% looks an event up in it, and the store itself. Readers go from there to the
%% handlers without a message. Writers call this process, so two of them can
%% never both find an id free.
-module(telemetry_handler_table).

-behaviour(gen_server).

-export([start_link/0, add/4, remove/1, for_event/1, for_prefix/1, persist/0]).
-export([nothing/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-compile({inline, [current/0]}).

-include("telemetry_entry.hrl").

-define(KEY, ?MODULE).

%% @doc Starts the process and, with it, an empty table.
-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, no_args, []).

%% @doc Adds a handler. Exits with `noproc' if the application is not started.
-spec add(
    telemetry:handler_id(),
    [telemetry:event_name()],
    telemetry:handler_function(),
    telemetry:handler_config()
) -> ok | {error, already_exists}.
add(Id, EventNames, Function, Config) ->
    gen_server:call(?MODULE, {add, [Id, EventNames, Function, Config]}).

%% @doc Removes a handler. Exits with `noproc' if the application is not started.
-spec remove(telemetry:handler_id()) -> ok | {error, not_found}.
remove(Id) ->
    gen_server:call(?MODULE, {remove, [Id]}).

%% @doc Entries for exactly this event, `[]' if the application is not started.
-spec for_event(telemetry:event_name()) -> [#entry{}].
for_event(EventName) ->
    {_Module, Lookup, Store} = current(),
    Lookup(Store, EventName).

%% @doc Entries below the prefix, `[]' if the application is not started.
-spec for_prefix(telemetry:event_prefix()) -> [#entry{}].
for_prefix(Prefix) ->
    {Module, _Lookup, Store} = current(),
    Module:for_prefix(Store, Prefix).

%% @doc Moves to the persistent store, from the calling process. Nothing happens
%% if that was done before; `badarg' if the application is not started.
-spec persist() -> ok.
persist() ->
    {Module, _Lookup, Store} = current(),
    case Module:freeze(Store) of
        {ok, Frozen} -> publish(telemetry_frozen, fun telemetry_frozen:for_event/2, Frozen);
        already_frozen -> ok
    end.

%% @private
%% The lookup in force while the application is not started.
-spec nothing(term(), telemetry:event_name()) -> [].
nothing(_Store, _EventName) ->
    [].

%% @private
-spec init(no_args) -> {ok, no_state}.
init(no_args) ->
    %% So that `terminate/2' is reached when the supervisor shuts us down.
    process_flag(trap_exit, true),
    publish(telemetry_live, fun telemetry_live:for_event/2, telemetry_live:new()),
    {ok, no_state}.

%% @private
-spec handle_call({add | remove, [term()]}, gen_server:from(), no_state) ->
    {reply, ok | {error, already_exists | not_found}, no_state}.
handle_call({Operation, Args}, _From, State) ->
    {Module, Lookup, Store} = current(),
    case apply(Module, Operation, [Store | Args]) of
        {ok, NewStore} ->
            publish(Module, Lookup, NewStore),
            {reply, ok, State};
        {error, _Reason} = Error ->
            {reply, Error, State}
    end.

%% @private
-spec handle_cast(term(), no_state) -> {noreply, no_state}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), no_state) -> {noreply, no_state}.
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), no_state) -> ok.
terminate(_Reason, _State) ->
    persistent_term:erase(?KEY),
    ok.

current() ->
    persistent_term:get(?KEY, {telemetry_live, fun ?MODULE:nothing/2, not_started}).

publish(Module, Lookup, Store) ->
    persistent_term:put(?KEY, {Module, Lookup, Store}).
