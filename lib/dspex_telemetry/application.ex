defmodule DSPexTelemetry.Application do
  @moduledoc false

  use Application

  alias DSPexTelemetry.{HandlerJanitor, Instance, Options}

  @impl true
  def start(_type, _args) do
    # Nothing depends on the janitor, so it comes last: its restart disturbs nobody.
    children =
      [{Registry, keys: :unique, name: Instance.registry()}] ++
        default_instance() ++ [HandlerJanitor]

    Supervisor.start_link(children,
      strategy: :rest_for_one,
      name: DSPexTelemetry.Supervisor
    )
  end

  defp default_instance do
    case Options.default_instance() do
      {:ok, options} -> [{DSPexTelemetry, options}]
      :none -> []
    end
  end
end
