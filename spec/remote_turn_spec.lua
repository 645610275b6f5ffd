-- Managers of a URL: tasks that wait for what comes over one connection, and the one of them that reads.
local support = require "spec.support"
local redis = require "spec.support.redis"

local server

setup(function() server = redis.start() end)
teardown(function() redis.remove(server) end)

-- With this lease no wait asks again by itself within the limit of a spec.
local HEAD = [[
local co = mp.co
local m = mp.Manager(%q, { namespace = %q, lease = 60 })
]]

local spaces = 0

local function ok(code)
  spaces = spaces + 1
  return support.ok(HEAD:format(server.url, "turn" .. spaces) .. code)
end

describe("a task that waits for what comes from the server", function()
  it("gets its reply when those that would read for it are cancelled in one turn", function()
    ok [[
      local d = m:dict("d", { x = 1 })
      for turns = 1, 3 do
        for round = 1, 20 do
          local asking = {}
          for i = 1, 5 do asking[i] = co.spawn(function() return d.x end) end
          for _ = 1, turns do co.sleep(0) end
          for i = 1, 4 do asking[i]:kill() end
          eq(asking[5]:get(), 1)
        end
      end
    ]]
  end)

  it("gets its lock when those that would read for it are cancelled in one turn", function()
    ok [[
      local l = m:Lock "l"
      for round = 1, 5 do
        l:acquire()
        local waiting = {}
        for i = 1, 5 do
          waiting[i] = co.spawn(function() return l:acquire() end)
          co.sleep(0.02)
        end
        for i = 1, 4 do waiting[i]:kill() end
        co.joinall(waiting, 0)
        l:release()
        eq(waiting[5]:get(), true)
        l:release()
      end
    ]]
  end)

  it("gets its item when the time of all others is over", function()
    ok [[
      local q = m:Queue "q"
      local last
      for i = 1, 5 do last = co.spawn(function() return q:get(i < 5 and 0.1 or nil) end) end
      co.sleep(0.3)
      q:put "item"
      eq(last:get(), "item")
    ]]
  end)

  it("gets its tokens when the time of all others is over", function()
    ok [[
      local limiter = m:RateLimiter("r", { rate = 10, burst = 1 })
      limiter:acquire()
      local waiting = {}
      for i = 1, 5 do waiting[i] = co.spawn(function() return limiter:acquire(1, i < 5 and 0.05 or nil) end) end
      eq(waiting[5]:get(), true)
    ]]
  end)
end)
