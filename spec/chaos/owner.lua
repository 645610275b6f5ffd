-- An owner of the lock of a storm: increments a counter that the lock guards, again and again, and says in a file what
-- it did (history.lua). As a program it runs until it is killed, and prints what is wrong.
-- usage: owner.lua URL LEASE KEY_FILE HISTORY
local mp = require "mpengine"

local owner = {}

--- Errors of what a process does that has been away for longer than its lease.
function owner.is_loss(err)
  return tostring(err):find("is lost", 1, true) or tostring(err):find("is not held", 1, true)
end

--- A manager; it is tried again while there is no server.
function owner.open(url, options)
  while true do
    local ok, m = pcall(mp.Manager, url, options)
    if ok then return m end
    mp.sleep(0.05)
  end
end

---@param m mpengine.remote.Manager
---@param path string
---@param check fun(ok: any, what: string)
---@param is_over fun(): boolean
function owner.guard(m, path, check, is_over)
  local lock, d, last = m:Lock "lock", m:dict "d", 0
  local f <close> = assert(io.open(path, "a"))
  f:setvbuf "no"
  while not is_over() do
    lock:acquire()
    local fence = lock.fence
    check(fence > last, "a fence that has not grown")
    last = fence
    local from, n = mp.now(), d:get("n", 0) + 1
    f:write(("i %d %d %.6f\n"):format(fence, n, from))
    local ok, err = pcall(d.set, d, "n", n, { guard = lock })
    if ok then
      f:write(("o %d\n"):format(fence))
    else
      check(owner.is_loss(err), "guarded set: " .. tostring(err))
    end
    local till = mp.now()
    ok, err = pcall(lock.release, lock)
    if ok then
      f:write(("r %d %.6f\n"):format(fence, till))
    else
      check(owner.is_loss(err), "release: " .. tostring(err))
    end
  end
end

if arg and arg[0]:find "owner%.lua$" then
  local url, lease, key, path = table.unpack(arg)
  local m = owner.open(url, { lease = tonumber(lease), key_file = key, timeout = 1e6 })
  owner.guard(m, path, function(ok, what)
    if ok then return end
    print(what)
    io.stdout:flush()
  end, function() return false end)
end

return owner
