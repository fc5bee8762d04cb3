# Tests tagged `:servers` need Debian's packages of Prometheus, and of Chromium; FULL=1 runs them too.
exclude = if System.get_env("FULL") == "1", do: [], else: [:servers]
DSPexTelemetry.LogWatch.start()
ExUnit.start(capture_log: true, exclude: exclude)
