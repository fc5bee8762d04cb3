defmodule DSPexTelemetry.Instance.Default do
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

  @doc "Options of an instance: of the default one's name, with those of the environment that are not given."
  @spec complete(keyword()) :: keyword()
  def complete(options) do
    with [{DSPexTelemetry, configured}] <- children(),
         true <- Keyword.keyword?(options) and name(options) == name(configured) do
      Keyword.merge(configured, options)
    else
      _none_or_another -> options
    end
  end

  defp name(options), do: Keyword.get(options, :name, DSPexTelemetry)

  @doc """
  Ends it for good, if this is its supervisor. `:ok` if that supervisor is no more, whoever of several callers
  has ended it: the name goes to the first that takes it.
  """
  @spec stop(pid()) :: :ok | :error
  def stop(pid) do
    with [{DSPexTelemetry, options}] <- children(),
         id = DSPexTelemetry.child_spec(options).id,
         {^id, ^pid, _type, _modules} <- child(id) do
      # Another caller may have done either.
      Supervisor.terminate_child(@supervisor, id)
      Supervisor.delete_child(@supervisor, id)
    end

    if Process.alive?(pid), do: :error, else: :ok
  end

  # While the application starts there is no child of this name that could be asked for, nor can the supervisor
  # ask itself when it starts the default instance again and the name has been taken.
  defp child(id) do
    if Process.whereis(@supervisor) not in [nil, self()],
      do: @supervisor |> Supervisor.which_children() |> List.keyfind(id, 0)
  end
end
