-- Asks for a random line of a file again and again: an id, or an id and the ETag that goes with it.
-- Arguments: the file, the host. The requests are made once, so that wrk itself costs little.

local threads = 0
local requests = {}

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  math.randomseed(os.time() * 100 + number)
  for line in io.lines(args[1]) do
    local id, etag = line:match("^(%S+)%s*(.*)$")
    local headers = { ["Host"] = args[2] }
    if etag ~= "" then headers["If-None-Match"] = etag end
    requests[#requests + 1] = wrk.format("GET", "/repos/" .. id, headers)
  end
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
