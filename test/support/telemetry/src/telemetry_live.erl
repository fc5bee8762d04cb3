%% @private
%% Handlers in an ETS table: the store in use until `telemetry:persist/0'.
%%
%% The table belongs to the handler table process, which alone may write to it.
%% Anyone may read; a reader that finds the table gone sees no handlers.
-module(telemetry_live).

-export([new/0, for_event/2, for_prefix/2, add/5, remove/2, freeze/1]).

-include("telemetry_entry.hrl").

-type store() :: ets:table().

%% @doc Creates an empty table owned by the calling process.
-spec new() -> store().
new() ->
    %% duplicate_bag: many handlers share an event, and an event given twice to
    %% one `attach_many/4' stays there twice.
    ets:new(?MODULE, [
        duplicate_bag,
        protected,
        {keypos, #entry.event_name},
        {read_concurrency, true}
    ]).

%% @doc Entries for exactly this event, `[]' if the table does not exist.
-spec for_event(store(), telemetry:event_name()) -> [#entry{}].
for_event(Store, EventName) ->
    try
        ets:lookup(Store, EventName)
    catch
        error:badarg -> []
    end.

%% @doc Entries whose event starts with the prefix, `[]' if there is no table.
-spec for_prefix(store(), telemetry:event_prefix()) -> [#entry{}].
for_prefix(Store, Prefix) ->
    %% A list pattern with an open tail matches every continuation of it.
    Pattern = #entry{event_name = lists:foldr(fun open/2, '_', Prefix), _ = '_'},
    try
        ets:match_object(Store, Pattern)
    catch
        error:badarg -> []
    end.

open(Segment, Tail) ->
    [Segment | Tail].

%% @doc Adds one entry per event, or nothing at all if the id is in use.
-spec add(
    store(),
    telemetry:handler_id(),
    [telemetry:event_name()],
    telemetry:handler_function(),
    telemetry:handler_config()
) -> {ok, store()} | {error, already_exists}.
add(Store, Id, EventNames, Function, Config) ->
    case ets:select_count(Store, every_entry_of(Id)) of
        0 ->
            ets:insert(Store, [
                #entry{event_name = Name, id = Id, function = Function, config = Config}
             || Name <- EventNames
            ]),
            {ok, Store};
        _ ->
            {error, already_exists}
    end.

%% @doc Removes every entry with the id; an error if there was none.
-spec remove(store(), telemetry:handler_id()) -> {ok, store()} | {error, not_found}.
remove(Store, Id) ->
    case ets:select_delete(Store, every_entry_of(Id)) of
        0 -> {error, not_found};
        _ -> {ok, Store}
    end.

%% @doc What the persistent store starts from. Raises `badarg' without a table.
-spec freeze(store()) -> {ok, telemetry_frozen:store()}.
freeze(Store) ->
    {ok, telemetry_frozen:from_entries(ets:tab2list(Store))}.

every_entry_of(Id) ->
    [{#entry{id = Id, _ = '_'}, [], [true]}].
