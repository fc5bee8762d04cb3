defmodule DSPexTelemetry.Options.DefaultInstanceTest do
  # Not async: the application's environment belongs to all.
  use ExUnit.Case, async: false

  alias DSPexTelemetry.Options

  setup do
    before = Application.get_all_env(:dspex_telemetry)

    on_exit(fn ->
      for {key, _value} <- Application.get_all_env(:dspex_telemetry),
          do: Application.delete_env(:dspex_telemetry, key)

      Application.put_all_env(dspex_telemetry: before)
    end)
  end

  test "the default instance takes its options from the application's environment" do
    Application.put_env(:dspex_telemetry, :series_limit, 7)
    assert {:ok, [series_limit: 7]} = Options.default_instance()
  end

  test "the default instance can be left out" do
    Application.put_env(:dspex_telemetry, :start_default, false)
    assert Options.default_instance() == :none
  end

  test "start_default is true or false" do
    Application.put_env(:dspex_telemetry, :start_default, "no")
    message = ~s(option :start_default must be true or false, got: "no")
    assert_raise ArgumentError, message, fn -> Options.default_instance() end
  end
end
