-- A program that hangs: two tellers take two locks in opposite order.
-- Notice: the heartbeat goes on, so the program does not look dead. `mpengine dump` in another terminal,
-- while `hang.lua wait` runs, names the tasks, the locks and the lines; here mp.dump() shows the same.
local mp = require "mpengine"
local co = mp.co

local till, safe = mp.Lock{ name = "till" }, mp.Lock{ name = "safe" }
local both = mp.Barrier{ parties = 2, name = "both have one" }

local function transfer(from, to)
  from:acquire()
  both:wait()
  to:acquire()
  to:release()
  from:release()
end

local function heartbeat() end

co.every(0.5, heartbeat)
local teller = mp.Process{ target = transfer, args = { safe, till }, name = "teller", daemon = true }
teller:start()
local clerk = co.spawn(transfer, till, safe)
if arg and arg[1] == "wait" then clerk:join() end

local text
repeat
  co.sleep(0.01)
  text = mp.dump()
until text:find("wait for each other", 1, true)
for mark in text:gmatch("\n! ([^\n]*)") do
  print((mark:gsub("pid %d+", "pid N"):gsub("0x%x+", "0xN"):gsub("/[^%s:]*/", "")))
end
