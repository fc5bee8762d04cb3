# Tests tagged `:servers` need other programs, such as Prometheus and Chromium, or minutes; FULL=1 runs them too.
exclude = if System.get_env("FULL") == "1", do: [], else: [:servers]
DSPexTelemetry.LogWatch.start()
ExUnit.start(capture_log: true, exclude: exclude)
