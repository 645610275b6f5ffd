-- Machines that are cut off for longer than their leases, without a sign: processes in one network namespace, the
-- server in another one, and a cable between them.
local support = require "spec.support"
local redis = require "spec.support.redis"
local netns = require "spec.support.netns"

local HEAD = [[
local netns = require "spec.support.netns"
local net, KEY = { server = %q, client = %q }, %q
local FAR = "redis://10.77.0.1:6379"
local m = open{ key_file = KEY }
local function far(...) return mp.subprocess.Popen(netns.at(net, "client", ...)) end
local function worker(words)
  local before = m:Pool():stats().workers
  for _, word in ipairs{ "worker", "--lease", "2", "-j2", "--allow", "*", "--key-file", KEY } do
    table.insert(words, word)
  end
  words.stderr = "null"
  words[#words + 1] = words.url
  words.url = nil
  local p = mp.subprocess.Popen(words)
  until_true(function() co.sleep(0.01) return m:Pool():stats().workers > before end)
  return p
end
local function far_worker()
  local words = netns.at(net, "client", "env", "LUA_PATH=" .. DIR .. "/?.lua;;", COMMAND)
  words.url = FAR
  return worker(words)
end
local function near_worker() return worker{ "env", "LUA_PATH=" .. DIR .. "/?.lua;;", COMMAND, url = URL } end
-- A program at the other end of the cable: m is a manager there. It says "there" with its first line.
local function program(code)
  local f = io.open(DIR .. "/far.lua", "w")
  f:write(("local mp = require 'mpengine' local co = mp.co local m = mp.Manager(%%q, { lease = 2, key_file = %%q })\n")
    :format(FAR, KEY), code)
  f:close()
  local words = netns.at(net, "client", COMMAND, DIR .. "/far.lua")
  words.stdin, words.stdout = "pipe", "pipe"
  local p = mp.subprocess.Popen(words)
  eq(p:read "l", "there")
  return p
end
]]

local made = 0

local function run(code)
  made = made + 1
  local net, why = netns.make(("%d%d"):format(support.shell "echo $PPID" % 1000000, made))
  if not net then return pending(why) end
  local server = redis.start("--port 6379 --bind 10.77.0.1 --protected-mode no", nil, "ip netns exec " .. net.server)
  local key = server.dir .. "/key"
  support.write_file(key, "a key of this spec")
  os.execute("chmod 600 " .. key)
  support.write_file(server.dir .. "/jobs.lua", [[
    local jobs = {}
    function jobs.slow(path, n)
      local f = io.open(path, "a")
      f:write(n, "\n")
      f:close()
      require "mpengine".sleep(0.5)
      return n
    end
    return jobs
  ]])
  local ok, err = pcall(support.ok, redis.head(server) .. HEAD:format(net.server, net.client, key) .. code,
    { timeout = 90 })
  redis.remove(server)
  netns.remove(net)
  if not ok then error(err, 0) end
end

describe("a partition", function()
  it("gives the tasks of a worker that is cut off to another one, and refuses what it says afterwards", function()
    run [[
      local first, times = far_worker(), {}
      local pool, path, results = m:Pool{ retries = 3 }, DIR .. "/ran", {}
      local function submit(n)
        return pool:apply_async("jobs.slow", { path, n }, { callback = function(v) times[v] = (times[v] or 0) + 1 end })
      end
      for i = 1, 8 do results[i] = submit(i) end
      eq(results[1]:get(10), 1)
      netns.cable(net, "down")
      local second = near_worker()
      for i = 1, 8 do eq(results[i]:get(30), i) end
      netns.cable(net, "up")
      until_true(function() co.sleep(0.05) return m:Pool():stats().workers == 2 end)
      second:kill "TERM"
      eq(second:wait(20), 0)
      eq(submit(9):get(30), 9)
      first:kill "TERM"
      eq(first:wait(30), 0)
      for i = 1, 9 do eq(times[i], 1) end
      eq(cli("KEYS", "mp:{default}:runs:*"):find "%S", nil)
    ]]
  end)

  it("costs a submitter that is cut off time only", function()
    run [[
      local w = near_worker()
      local p = program(([=[
        local pool, results = m:Pool{ retries = 3 }, {}
        local times = {}
        for i = 1, 40 do
          results[i] = pool:apply_async("jobs.slow", { %q, i }, { callback = function(v)
            times[v] = (times[v] or 0) + 1
          end })
        end
        results[1]:get(20)
        print "there"
        for i = 1, 40 do assert(results[i]:get(60) == i) end
        mp.sleep(0)
        for i = 1, 40 do assert(times[i] == 1) end
        print "all"
      ]=]):format(DIR .. "/ran"))
      netns.cable(net, "down")
      co.sleep(5) -- more than two leases
      netns.cable(net, "up")
      eq(p:read "l", "all")
      eq(p:wait(10), 0)
      w:kill()
    ]]
  end)

  it("takes its lock from a process that is cut off, which writes nothing with its guard any more", function()
    run [[
      local p = program [=[
        local l, d = m:Lock "l", m:dict "d"
        l:acquire()
        d:set("x", 1, { guard = l })
        print "there"
        io.read "l"
        print(pcall(d.set, d, "x", "late", { guard = l }))
        print(pcall(l.release, l))
      ]=]
      local l, d = m:Lock "l", m:dict "d"
      eq({ d.x, l:acquire(0) }, { 1, nil, "timeout" })
      netns.cable(net, "down")
      eq({ l:acquire(20) }, { true, "owner_died" })
      d:set("x", 2, { guard = l })
      p:write "go\n"
      co.sleep(1)
      netns.cable(net, "up")
      matches(p:read "l", "the lock that guards it is not held")
      matches(p:read "l", "the lock is lost")
      eq({ d.x, l:locked() }, { 2, true })
      l:release()
      eq(p:wait(10), 0)
    ]]
  end)

  it("that comes and goes doubles and loses nothing", function()
    run [[
      local p = program [=[
        print "there"
        local q, l, d = m:Queue("q", 5), m:Lock "l", m:dict "d"
        for i = 1, 400 do
          assert(q:put(i))
          l:acquire()
          d:set("n", d:get("n", 0) + 1, { guard = l })
          l:release()
        end
        q:close()
        print "all"
      ]=]
      local flap = co.spawn(function()
        for _ = 1, 12 do
          netns.cable(net, "down")
          co.sleep(0.2)
          netns.cable(net, "up")
          co.sleep(0.2)
        end
      end)
      local n = 0
      for v in m:Queue("q", 5):iter() do
        n = n + 1
        eq(v, n)
      end
      eq({ n, p:read "l", m:dict "d".n }, { 400, "all", 400 })
      flap:get(20)
    ]]
  end)
end)
