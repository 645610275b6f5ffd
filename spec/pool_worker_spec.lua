local support = require "spec.support"
local ok = support.ok

local METHODS = { "fork", "spawn", "forkserver" }

local function each_method(code, opts)
  for _, method in ipairs(METHODS) do
    ok(('mp.set_start_method("%s")\n'):format(method) .. code, opts)
  end
end

describe("a pool's worker", function()
  it("keeps no connection of its parent, even if it is started late or as a replacement", function()
    each_method[[
      local socket = require "socket"
      local server = socket.bind("127.0.0.1", 0)
      local _, port = server:getsockname()
      for name, use in pairs{
        more = function(pool) pool:resize(2) pool:map(function() mp.sleep(0.02) end, { 1, 2, 3, 4 }) end,
        replaced = function(pool)
          pcall(pool.apply, pool, function() os.exit(1) end)
          pool:apply(function() end)
        end,
        whole = function() mp.Pool(2):apply(function() end) end,
      } do
        local pool <close> = mp.Pool(1)
        pool:apply(function() end)
        local client = socket.connect("127.0.0.1", port)
        local conn = server:accept()
        local udp = socket.udp()
        udp:setsockname("127.0.0.1", 0)
        local _, udp_port = udp:getsockname()
        use(pool)
        conn:send("bye")
        conn:close()
        udp:close()
        client:settimeout(5)
        local text, why = client:receive("*a")
        eq(text, "bye", name .. ": " .. tostring(why))
        udp = socket.udp()
        assert(udp:setsockname("127.0.0.1", udp_port), name)
        udp:close()
      end]]
  end)

  it("closes nothing of its own when it collects the objects it has copies of", function()
    ok[[
      mp.set_start_method("fork")
      local socket = require "socket"
      sockets = {}
      for i = 1, 20 do sockets[i] = socket.tcp() sockets[i]:bind("127.0.0.1", 0) end
      local pool <close> = mp.Pool(1)
      eq(pool:apply(function()
        local files, lines = {}, 0
        for i = 1, 30 do files[i] = io.open("/etc/passwd") end
        sockets = nil
        collectgarbage() collectgarbage()
        for _, f in ipairs(files) do if f:read("l") then lines = lines + 1 end end
        return lines
      end), 30)]]
  end)

  it("does not hold open what a program reads from", function()
    ok([[
      mp.set_start_method("fork")
      local pool <close> = mp.Pool(3)
      local text = ("line\n"):rep(40000)
      local t = mp.co.spawn(mp.subprocess.run, { "sort", stdin = text })
      mp.sleep(0)
      pool:map(function() mp.sleep(0.02) end, { 1, 2, 3, 4, 5, 6 })
      eq(#pool:stats().workers, 3)
      eq(#t:get(10).stdout, #text)]], { mode = "command" })
  end)

  it("is not ended by Ctrl-C, which the main script handles; programs in it are", function()
    each_method([[
      local pool, stop = mp.Pool(2), mp.Event()
      mp.signal("INT", function() stop:set() end)
      local ready = mp.Queue()
      local function pid() return mp.current_process().pid end
      local r = pool:apply_async(function() ready:put(pid()) stop:wait() return "kept" end)
      local p = pool:apply_async(function()
        ready:put(pid())
        return mp.subprocess.run{ "sh", "-c", "kill -INT $$; echo not" }.status
      end)
      local a, b = ready:get(), ready:get()
      eq(p:get(10), -2)
      for _, who in ipairs{ a, b, pid() } do io.popen("kill -INT " .. who):close() end
      eq(r:get(10), "kept")
      local pids = {}
      for _, w in ipairs(pool:stats().workers) do pids[w.pid] = true end
      eq(pids[a], true) eq(pids[b], true)
      pool:terminate()]])
  end)

  it("ends when the main script ends by Ctrl-C", function()
    local r = support.run([[
      local pool = mp.Pool(2)
      print(pool:apply(function() return mp.current_process().pid end))
      pool:apply_async(function() while true do end end)
      io.popen("kill -INT " .. mp.current_process().pid):close()
      mp.sleep(30)]], { session = true })
    assert.equal(130, r.status)
    local pid = assert(r.stdout:match("%d+"))
    assert.is_true(support.eventually(function() return support.dead(pid) end))
  end)

  it("ends the programs that it waits for when it is ended, except those detached", function()
    ok([[
      mp.monkey.patch_all()
      for how, stop in pairs{
        terminate = function(pool) pool:terminate() end,
        killed = function(pool) for _, w in ipairs(pool:stats().workers) do kill(w.pid) end end,
        timeout = function() end,
      } do
        for kind, task in pairs{
          run = function(name) mp.subprocess.run{ "sh", "-c", "echo $$ >" .. name .. "; exec sleep 30" } end,
          execute = function(name) os.execute("echo $$ >" .. name .. "; exec sleep 30") end,
          popen = function(name) io.popen("echo $$ >" .. name .. "; exec sleep 30"):read("a") end,
        } do
          local name = os.tmpname()
          local pool = mp.Pool(1)
          local r = pool:apply_async(task, { name }, { timeout = how == "timeout" and 0.3 or nil })
          local pid
          until_true(function()
            local f <close> = io.open(name)
            pid = f:read("n")
            return pid
          end)
          stop(pool)
          if how == "timeout" then pcall(r.get, r) end
          if how ~= "timeout" or kind ~= "popen" then wait_dead(pid) end -- a file that is dropped may be read on
          pool:terminate()
          wait_dead(pid)
          os.remove(name)
        end
      end
      local name = os.tmpname()
      local p = P(function()
        mp.subprocess.run{ "sh", "-c", "echo $$ >" .. name .. "; exec sleep 30", detach = true }
      end)
      local pid
      until_true(function()
        local f <close> = io.open(name)
        pid = f:read("n")
        return pid
      end)
      p:kill() p:join()
      eq(dead(pid), false)
      kill(pid)
      os.remove(name)]], { timeout = 40 })
  end)
end)
