%% @doc Help for tests of code that emits events.
-module(telemetry_test).

-export([attach_event_handlers/2]).
-export([handle_event/4]).

%% @doc Has the given events sent to a process.
%%
%% Returns a reference. For each event the process gets the message
%% `{EventName, Reference, Measurements, Metadata}'. The reference is also the
%% handler id, so `telemetry:detach/1' with it ends the messages.
%%
%% Raises `function_clause' if the arguments are not a pid and a list, and
%% `badarg' if the list holds anything that is not an event name. Exits if the
%% application is not started.
-spec attach_event_handlers(pid(), [telemetry:event_name(), ...]) -> reference().
attach_event_handlers(Pid, EventNames) when is_pid(Pid), is_list(EventNames) ->
    Ref = make_ref(),
    ok = telemetry:attach_many(Ref, EventNames, fun ?MODULE:handle_event/4, #{
        dest_pid => Pid,
        ref => Ref
    }),
    Ref.

%% @private
-spec handle_event(
    telemetry:event_name(),
    telemetry:event_measurements(),
    telemetry:event_metadata(),
    #{dest_pid := pid(), ref := reference()}
) -> term().
handle_event(EventName, Measurements, Metadata, #{dest_pid := Pid, ref := Ref}) ->
    Pid ! {EventName, Ref, Measurements, Metadata}.
