-- Asks for one host after another out of the first N of h0.test, h1.test, ...; for how many requests a list is made is an
-- argument of its own, so that wrk itself works as hard for one host as for ten thousand. Arguments: N LENGTH.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local requests, at = {}, 0

function init(args)
  local hosts, length = tonumber(args[1]), tonumber(args[2])
  for n = 0, length - 1 do
    wrk.headers["Host"] = string.format("h%d.test", n % hosts)
    requests[n + 1] = wrk.format()
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
