-- Programs. usage: popen.lua true   ns per start and wait of a program that does nothing
--                  popen.lua cat    ns per 64 KiB through cat: 1 GB is written in pieces by a task, and read
local mp = require "mpengine"
local bench = dofile "bench/lib.lua"
local Popen = mp.subprocess.Popen

local function start_and_wait(n)
  for _ = 1, n do Popen{ "true" }:wait() end
end

local BLOCK, PIECE, TOTAL = 64 << 10, 1 << 20, 1 << 30

local function through_cat()
  local piece = ("x"):rep(PIECE)
  local start = bench.now()
  local p = Popen{ "cat", stdin = "pipe", stdout = "pipe" }
  mp.co.spawn(function()
    for _ = 1, TOTAL // PIECE do p:write(piece) end
    p:close_stdin()
  end)
  local total = 0
  while true do
    local bytes = p:read(PIECE)
    if not bytes then break end
    total = total + #bytes
  end
  assert(p:wait() == 0 and total == TOTAL)
  bench.report((bench.now() - start) / (TOTAL // BLOCK) * 1e9, "ns")
end

if arg[1] == "true" then bench.ns(start_and_wait, 5) else through_cat() end
