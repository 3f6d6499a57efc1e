-- Pipelines requests, and prints wrk's figures in one line that a program can read.
function init(args)
  local depth = tonumber(args[1]) or 1
  local one = wrk.format()
  local requests = {}
  for number = 1, depth do requests[number] = one end
  batch = table.concat(requests)
end

function request()
  return batch
end

function done(summary, latency, requests)
  local errors = summary.errors
  local wrong = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  print(string.format("figures %d %d %f %f %f %f", summary.requests, wrong, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99), latency.max))
end
