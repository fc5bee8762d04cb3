defmodule DSPexTelemetry.Catalogue.SnakepitEvents.Python do
  @moduledoc false
  # What Python code sends.

  import DSPexTelemetry.Catalogue.SnakepitEvents.Fields

  alias DSPexTelemetry.Catalogue.{Event, Field}

  # Sent by Python through `snakepit_bridge.telemetry`: what is metadata there is text here, and durations are
  # nanoseconds if the helper `span` measured them.
  python_duration = measurement(:duration, :number, :nanosecond, "How long it took.")
  tool = name(:tool, "The tool.")
  python_command = %Field{name(:command, "What was called.") | from: [:command, :function]}

  python_module = %Field{
    name(:python_module, "The Python module.")
    | from: ["python_module", :python_module, :library, :module],
      default: "snakepit"
  }

  sent = [
    unused(:metadata, :python_pid, "Process id of the Python process."),
    unused(:metadata, :timestamp_ns, "When, as Python's clock says.")
  ]

  calls_of_tools = "dspex.tools.call"

  # What Python timed itself. Whose call it is inside of has an event of its own.
  python_call = fn outcome, success, doc, needed ->
    %Event{
      event(
        [:python, :call, outcome],
        doc,
        [needed.(python_duration), python_command, python_module | sent],
        [
          {:feed, "snakepit.python.call", [:command],
           [snakepit_python_call_total: [{:constant, success}]],
           [snakepit_python_call_duration: :duration]},
          {:feed, "dspex.bridge.call_method.python", [:command, :python_module],
           [dspex_bridge_call_method_python_total: [{:constant, success}]],
           [dspex_bridge_call_method_python_duration: :duration]}
        ]
      )
      | variant: :python,
        only: {:with, [:worker_id, :python_pid, :timestamp_ns]}
    }
  end

  python_tool = fn outcome, success, doc, needed ->
    %Event{
      event(
        [:python, :tool, :execution, outcome],
        doc,
        [needed.(python_duration), tool | sent],
        [
          {:feed, "snakepit.python.tool", [:tool],
           [snakepit_python_tool_total: [{:constant, success}]],
           [snakepit_python_tool_duration: :duration]},
          {:claimed,
           {:feed, calls_of_tools, [:tool], [dspex_tools_call_total: [{:constant, success}]],
            [dspex_tools_call_duration: :duration]}}
        ]
      )
      | claim: {:tool, :tool}
    }
  end

  required = fn field -> field end

  python = [
    python_call.(:stop, "true", "A call that Python code timed itself returned.", required),
    python_call.(
      :exception,
      "false",
      "A call that Python code timed itself raised.",
      &optional/1
    ),
    %Event{
      event(
        [:python, :tool, :execution, :start],
        "Python code starts to execute a tool.",
        [system_time(), tool | sent],
        [
          {:claimed,
           {:feed, calls_of_tools, [:tool],
            [dspex_tools_call_start_total: [{:constant, "elixir"}]], []}}
        ]
      )
      | claim: {:tool, :tool}
    },
    python_tool.(:stop, "true", "Python code has executed a tool.", required),
    python_tool.(:exception, "false", "A tool raised in Python.", &optional/1),
    event(
      [:python, :tool, :result_size],
      "Size of the result of a tool.",
      [
        %Field{
          measurement(:size, :integer, :byte, "The size.")
          | from: [:bytes, :message_size]
        },
        tool | sent
      ],
      [
        {:feed, "snakepit.python.tool", [:tool], [],
         [snakepit_python_tool_result_size_bytes: :size]}
      ]
    ),
    event(
      [:python, :memory, :sampled],
      "Memory of a Python process.",
      [
        optional(measurement(:rss_bytes, :integer, :byte, "Resident.")),
        optional(measurement(:vms_bytes, :integer, :byte, "Virtual.")),
        worker_id() | sent
      ],
      [
        {:set, :snakepit_python_memory_rss_bytes, [:worker_id], :rss_bytes},
        {:set, :snakepit_python_memory_vms_bytes, [:worker_id], :vms_bytes}
      ]
    ),
    event(
      [:python, :cpu, :sampled],
      "Use of processors by a Python process.",
      [
        measurement(:cpu_percent, :number, :percent, "Share of one processor's time."),
        worker_id() | sent
      ],
      [{:set, :snakepit_python_cpu_ratio, [:worker_id], :cpu_percent}]
    ),
    event(
      [:python, :gc, :completed],
      "Python has collected garbage.",
      [count(), unused(:measurements, :generation, "Which generation.") | sent],
      [{:feed, "snakepit.python.gc", [], [snakepit_python_gc_total: []], []}]
    ),
    event(
      [:python, :error, :occurred],
      "Python code tells of an error.",
      [count(), name(:error_type, "Its type.") | sent],
      [
        {:feed, "snakepit.python.error", [:error_type], [snakepit_python_error_total: []], []}
      ]
    )
  ]

  @events python

  @spec all() :: [DSPexTelemetry.Catalogue.Event.t()]
  def all, do: @events
end
