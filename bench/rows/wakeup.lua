-- Two processes wake each other in turn through events or a condition: ns for there and back, two wake-ups.
-- usage: wakeup.lua event|condition
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"

-- Each returns the two sides: functions that signal the other side and wait for their turn again.
local make = {}

function make.event()
  local there, back = mp.Event(), mp.Event()
  local function ping()
    there:set()
    back:wait()
    back:clear()
  end
  local function pong()
    there:wait()
    there:clear()
    back:set()
  end
  return ping, pong
end

function make.condition()
  local c, turn = mp.Condition(), mp.RawValue("i", 0)
  local function ping()
    c:acquire()
    turn.value = 1
    c:notify()
    while turn.value == 1 do c:wait() end
    c:release()
  end
  local function pong()
    c:acquire()
    while turn.value == 0 do c:wait() end
    turn.value = 0
    c:notify()
    c:release()
  end
  return ping, pong
end

bench.ns(function(n)
  local ping, pong = make[arg[1]]()
  local p = mp.Process{ target = function()
    for _ = 1, n + 1 do pong() end
  end }
  p:start()
  ping() -- the child runs now

  local start = bench.now()
  for _ = 1, n do ping() end
  local seconds = bench.now() - start

  p:join()
  return seconds
end, 100)
