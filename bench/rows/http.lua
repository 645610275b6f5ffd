-- HTTP requests. usage: http.lua small URL   ns per request, 20 at once
--                       http.lua body URL    ns for 100 MB as a string
--                       http.lua sink URL    ns for 100 MB piece by piece
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"
local variant, url = arg[1], arg[2]

local AT_ONCE = 20

local function small(n)
  local session, left, tasks = mp.http.Session(), n, {}
  for i = 1, AT_ONCE do
    tasks[i] = mp.co.spawn(function()
      while left > 0 do
        left = left - 1
        assert(session:get(url .. "/small").body == "hello")
      end
    end)
  end
  mp.co.joinall(tasks, nil, { raise_error = true })
end

local function big(n)
  for _ = 1, n do
    local size = 0
    local sink = variant == "sink" and function(piece) size = size + #piece end or nil
    local r = assert(mp.http.get(url .. "/big", { sink = sink }))
    assert(size + #r.body == 100 << 20)
  end
end

if variant == "small" then bench.ns(small) else bench.ns(big, 1) end
