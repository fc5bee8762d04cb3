# Those that need other programs run in bin/test --full.
exclude = if System.get_env("FULL") == "1", do: [], else: [:servers]

ExUnit.after_suite(&Bridge.Servers.clean_up/1)
ExUnit.start(assert_receive_timeout: 5_000, exclude: exclude)
