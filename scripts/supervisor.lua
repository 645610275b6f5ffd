-- Three processes that are kept running: one crashes twice before it works, one is killed.
-- Notice: "store" is ready before "web" starts; what ends is started again after a short pause, and
-- the others are left alone; the stop goes in the reverse order, and is what SIGTERM does to run.
local mp = require "mpengine"

local attempts, asked, answers = mp.Value("i", 0), mp.Queue(), mp.Queue()

--- Says goodbye when it is stopped.
local function until_stopped(name)
  local stop = mp.Event()
  mp.signal("TERM", function() stop:set() end)
  mp.ready()
  stop:wait()
  print(name .. " is stopped")
end

local function store()
  print "store is ready"
  until_stopped "store"
end

local function web()
  print("web is up, after " .. attempts.value .. " crashes")
  until_stopped "web"
end

local function flaky_web()
  if attempts.value < 2 then
    attempts:add(1)
    os.exit(1)
  end
  web()
end

local function worker()
  for n in asked:iter() do answers:put(n * n) end
end

local s = mp.Supervisor {
  { name = "store", target = store, ready = true },
  { name = "worker", target = worker, restart = "on_error" },
  { name = "web", target = flaky_web, ready = 10 },
  max_restarts = 5, window = 60, backoff = { 0.02, 1 },
}
s:start()
print("web has been started again", s:status().web.restarts)

asked:put(7)
print("worker says", answers:get())
mp.subprocess.run { "kill", "-9", tostring(s:status().worker.pid) }
asked:put(8)
print("the next worker says", answers:get())

s:restart "store"
s:stop()
