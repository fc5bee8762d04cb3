defmodule DSPexTelemetry.LogWatch do
  @moduledoc """
  Tells tests what is logged in the VM, by one `:logger` handler that stays. Where handlers come and go at the
  same time, `:logger` of OTP 27 can keep the name of one that is gone, and then fails in every test.
  """

  @doc "Adds the handler. Once, before the tests."
  @spec start() :: :ok
  def start do
    {:ok, _registry} = Registry.start_link(keys: :duplicate, name: __MODULE__)
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{level: :all})
  end

  @doc """
  Sends the calling process what `message` makes of each event that is logged, unless it is `nil`, for as
  long as the process lives. `message` is called by the process that logs.
  """
  @spec watch((:logger.log_event() -> term())) :: :ok
  def watch(message) do
    {:ok, _} = Registry.register(__MODULE__, :watch, message)
    :ok
  end

  @doc false
  def log(event, _config) do
    for {test, message} <- Registry.lookup(__MODULE__, :watch), told = message.(event) do
      send(test, told)
    end
  end
end
