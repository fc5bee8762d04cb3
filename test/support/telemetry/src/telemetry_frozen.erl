%% @private
%% Handlers in a plain map, meant to live in a persistent term: the store in use
%% after `telemetry:persist/0'. Reads copy nothing. Every change builds a new
%% map, and publishing that one is what makes writes expensive.
-module(telemetry_frozen).

-export([from_entries/1, for_event/2, for_prefix/2, add/5, remove/2, freeze/1]).
-export_type([store/0]).

-include("telemetry_entry.hrl").

-type store() :: #{telemetry:event_name() => [#entry{}]}.

%% @doc A store with the given entries.
-spec from_entries([#entry{}]) -> store().
from_entries(Entries) ->
    lists:foldl(fun push/2, #{}, Entries).

%% @doc Entries for exactly this event, newest first.
-spec for_event(store(), telemetry:event_name()) -> [#entry{}].
for_event(Store, EventName) ->
    case Store of
        #{EventName := Entries} -> Entries;
        #{} -> []
    end.

%% @doc Entries whose event starts with the prefix.
-spec for_prefix(store(), telemetry:event_prefix()) -> [#entry{}].
for_prefix(Store, Prefix) ->
    lists:append([
        Entries
     || {EventName, Entries} <- maps:to_list(Store), lists:prefix(Prefix, EventName)
    ]).

%% @doc Adds one entry per event, or nothing at all if the id is in use.
%%
%% Only the events in the call are searched for the id, so it can come to be
%% used twice if the events differ. Upstream behaves so once persisted, and so
%% does this; it also refuses an event that is named twice in one call.
-spec add(
    store(),
    telemetry:handler_id(),
    [telemetry:event_name()],
    telemetry:handler_function(),
    telemetry:handler_config()
) -> {ok, store()} | {error, already_exists}.
add(Store, Id, EventNames, Function, Config) ->
    Taken = fun(Name) -> lists:keymember(Id, #entry.id, for_event(Store, Name)) end,
    Repeated = length(lists:usort(EventNames)) < length(EventNames),
    case Repeated orelse lists:any(Taken, EventNames) of
        true ->
            {error, already_exists};
        false ->
            {ok,
                from_names(EventNames, Store, #entry{
                    event_name = '_',
                    id = Id,
                    function = Function,
                    config = Config
                })}
    end.

from_names(EventNames, Store, Template) ->
    lists:foldl(
        fun(Name, Acc) -> push(Template#entry{event_name = Name}, Acc) end,
        Store,
        EventNames
    ).

%% @doc Removes the id, once from each event; an error if no event has it.
-spec remove(store(), telemetry:handler_id()) -> {ok, store()} | {error, not_found}.
remove(Store, Id) ->
    case maps:map(fun(_, Entries) -> lists:keydelete(Id, #entry.id, Entries) end, Store) of
        Store -> {error, not_found};
        Smaller -> {ok, Smaller}
    end.

%% @doc There is nothing left to do for a store of this kind.
-spec freeze(store()) -> already_frozen.
freeze(_Store) ->
    already_frozen.

push(#entry{event_name = Name} = Entry, Store) ->
    Store#{Name => [Entry | for_event(Store, Name)]}.
