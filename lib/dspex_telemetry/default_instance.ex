defmodule DSPexTelemetry.DefaultInstance do
  @moduledoc false
  # The instance that the application starts by itself, until somebody starts one of the same name.

  alias DSPexTelemetry.Options

  @supervisor DSPexTelemetry.Supervisor

  @doc "What the application has to start."
  @spec children() :: [{module(), keyword()}]
  def children do
    case Options.default_instance() do
      {:ok, options} -> [{DSPexTelemetry, options}]
      :none -> []
    end
  end

  @doc "Ends it for good, if this is its supervisor, and returns the options that it had."
  @spec stop(pid()) :: {:ok, keyword()} | :error
  def stop(pid) do
    with [{DSPexTelemetry, options}] <- children(),
         id = DSPexTelemetry.child_spec(options).id,
         {^id, ^pid, _type, _modules} <- child(id) do
      :ok = Supervisor.terminate_child(@supervisor, id)
      :ok = Supervisor.delete_child(@supervisor, id)
      {:ok, options}
    else
      _none_or_another -> :error
    end
  end

  # While the application starts there is no child of this name that could be asked for.
  defp child(id) do
    if is_pid(Process.whereis(@supervisor)),
      do: @supervisor |> Supervisor.which_children() |> List.keyfind(id, 0)
  end
end
