defmodule DSPexTelemetry.Application do
  @moduledoc false

  use Application

  alias DSPexTelemetry.Instance.{Default, HandlerJanitor, Lookup}

  @impl true
  def start(_type, _args) do
    # Nothing depends on the janitor, so it comes last: its restart disturbs nobody.
    children =
      [{Registry, keys: :unique, name: Lookup.registry()}] ++
        Default.children() ++ [HandlerJanitor]

    Supervisor.start_link(children,
      strategy: :rest_for_one,
      name: DSPexTelemetry.Supervisor
    )
  end
end
