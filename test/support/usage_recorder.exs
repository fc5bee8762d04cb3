# Records and saves until it is killed. Prints, after each save, how much had been recorded when the
# save began.
[path] = System.argv()

Application.put_env(:dspex_telemetry, :start_default, false, persistent: true)
{:ok, _started} = Application.ensure_all_started(:dspex_telemetry)

options = [name: Recorder, usage_path: path, usage_save_interval: 10, slice: 10]
{:ok, _pid} = DSPexTelemetry.start_link(options)

recorded = :counters.new(1, [])
event = [:dspex, :tools, :call, :stop]

record = fn record ->
  tool = "tool#{rem(:counters.get(recorded, 1), 100)}"
  :telemetry.execute(event, %{duration: 1}, %{tool_name: tool, success: true})
  :counters.add(recorded, 1, 1)
  record.(record)
end

save = fn save ->
  count = :counters.get(recorded, 1)
  :ok = DSPexTelemetry.UsageAnalytics.save(instance: Recorder)
  IO.puts("saved #{count}")
  save.(save)
end

spawn_link(fn -> record.(record) end)
save.(save)
