%% @private
%% Keeps the handler table alive. A restarted table starts out empty.
-module(telemetry_sup).

-behaviour(supervisor).

-export([start_link/0, init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, telemetry_sup}, ?MODULE, no_args).

-spec init(no_args) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(no_args) ->
    Table = #{
        id => handler_table,
        start => {telemetry_handler_table, start_link, []}
    },
    {ok, {#{strategy => one_for_one, intensity => 1, period => 5}, [Table]}}.
