-- Ten processes that sleep a little and print.
-- Notice: they are started in order, but print in the order in which they wake up, each from its
-- own pid; 'all done' is printed last, because the main script joins every one of them before it
-- prints.
local mp = require "mpengine"

local function work(n)
  local seconds = (n * 7 % 10 + 1) / 20
  mp.sleep(seconds)
  local me = mp.current_process()
  print(("%s (pid %d): number %d slept %.2f s"):format(me.name, me.pid, n, seconds))
end

local processes = {}
for n = 1, 10 do
  processes[n] = mp.Process{ target = work, args = { n } }
  processes[n]:start()
end

for _, p in ipairs(processes) do
  p:join()
end
print "all done"
