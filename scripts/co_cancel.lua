-- Ending a task from outside.
-- Notice: kill() does not wait. The kill is raised in the task as an error where it waits. The task
-- may clean up in its <close> variables, where it may even wait, or after a pcall. A loop around
-- pcall does not save it.
local mp = require "mpengine"
local co = mp.co

local worker = co.spawn(function()
  local _ <close> = setmetatable({}, {
    __close = function(_, err)
      co.sleep(0.01) -- say goodbye to a server, for example
      print(("worker: cleaned up (%s: %s)"):format(err.kind, err.reason))
    end,
  })
  print "worker: starts"
  while true do co.sleep(60) end
end)

local stubborn = co.spawn(function()
  while true do pcall(co.sleep, 60) end
end)

co.sleep(0.01)
co.killall({ worker, stubborn }, "closing time")
print "killed, not ended yet"

co.joinall { worker, stubborn }
print("worker:", worker:get())
print("stubborn:", stubborn:get())

-- A task that was killed before it ran never runs.
local never = co.spawn(print, "never printed")
never:kill()
print("never:", never:get())
