-- The handles of luv: which ones exist, and how they end, at the end of the script and before.
local support = require "spec.support"
local as_stock, ok, run = support.as_stock, support.ok, support.run

describe("luv's handles", function()
  it("are traversed in the order they were made, the closing ones too, without requests", function()
    as_stock[[
      local uv = require "luv"
      local handles, number = {}, {}
      for i, kind in ipairs { "timer", "tcp", "udp", "pipe", "idle", "async", "check", "prepare", "fs_event" } do
        handles[i] = kind == "async" and uv.new_async(print) or uv["new_" .. kind](kind == "pipe" or nil)
        number[handles[i] ] = i
      end
      local scan, dir = uv.fs_scandir "/", uv.fs_opendir "/"
      local async = uv.fs_scandir("/", function() end)
      local function walk()
        local list = {}
        uv.walk(function(h) list[#list + 1] = number[h] .. (uv.is_closing(h) and "c" or "") end)
        print(table.concat(list, " "))
      end
      walk()
      handles[3]:close()
      handles[5]:close()
      walk()
      uv.run "nowait"
      walk()
      uv.walk(uv.close)
      uv.run()
      print(pcall(uv.walk, error), uv.loop_alive(), scan ~= async, dir:closedir())]]
  end)

  it("do not include the engine's own", function()
    ok[[
      local uv, co = require "luv", mp.co
      co.spawn(mp.subprocess.run, { "sleep", "0.1" })
      local child = P(function() os.execute "sleep 0.1" end)
      co.sleep(0.01)
      uv.walk(error)
      local t = uv.new_timer()
      local n = 0
      uv.walk(function(h) n = n + 1 assert(h == t) co.sleep(0.001) end)
      eq(n, 1)
      child:join()]]
  end)

  it("report errors as before", function()
    as_stock[[
      local uv = require "luv"
      local function tell(_, message) print((message:match "script.lua:%d+: .*"):gsub("0x%x+", "")) end
      tell(pcall(function() uv.new_tcp(true) end))
      tell(pcall(function() uv.new_pipe(5) end))
      tell(pcall(function() uv.spawn() end))
      tell(pcall(function() uv.fs_scandir() end))
      tell(pcall(function() uv.new_timer():start() end))
      tell(pcall(function() local t = uv.new_timer() t:close() t:close() end))
      print(uv.spawn("/nonexistent", {}, print))
      print(uv.fs_scandir "/nonexistent")
      uv.run()]]
  end)

  local endings = {
    ["open and active"] = "uv.new_timer():start(100000, 0, print) uv.new_tcp() uv.new_idle():start(print)",
    ["closing"] = "local t = uv.new_tcp() t:bind('127.0.0.1', 0) t:listen(3, print) t:close() uv.new_timer():close()",
    ["with a listing begun"] = "uv.fs_scandir '/' uv.new_timer() uv.fs_scandir('/', print) uv.fs_opendir '/'",
    ["with a listing read to its end"] = "uv.new_tcp() for _ in uv.fs_scandir_next, uv.fs_scandir '/' do end",
    ["with requests under way"] =
      "uv.fs_stat('/', print) uv.getaddrinfo('localhost', nil, nil, print) uv.new_work(function() end, print):queue()",
    ["with a program under way"] = "local p = uv.spawn('sleep', { args = { '0.05' } }, print) uv.new_pipe()",
    ["inside a callback"] = "uv.new_timer():start(0, 0, function() uv.new_tcp():close() os.exit(0, true) end) uv.run()",
    ["with a callback that waits"] = [[uv.new_timer():start(0, 0, function() require "mpengine".sleep(100) end)
      uv.run "nowait"]],
  }
  for what, code in pairs(endings) do
    it("may be left " .. what .. " at the end, which is a good one", function()
      for _, mode in ipairs { "command", "stock" } do
        for _, last in ipairs { "", " os.exit(0, true)" } do
          local whole = 'require "mpengine" local uv = require "luv" ' .. code .. last
          local result = run(whole, { plain = true, mode = mode })
          assert.same({ mode, last, 0, "", "" }, { mode, last, result.status, result.stdout, result.stderr })
        end
      end
    end)
  end

  it("live on when luv is loaded again", function()
    ok[[
      local uv, fired = require "luv", 0
      local old = uv.new_timer()
      old:start(5, 0, function() fired = fired + 1 old:close() end)
      package.loaded.luv = nil
      package.loaded["mpengine.luv"] = nil
      local again = require "luv"
      collectgarbage()
      collectgarbage()
      local new = again.new_timer()
      new:start(1, 0, function() fired = fired + 1 new:close() end)
      eq(again.run(), false)
      eq({ fired, uv.run(), uv.loop_alive() }, { 2, false, false })]]
  end)
end)

describe("in other processes luv", function()
  it("starts afresh in a forked child, without the parent's handles and requests", function()
    ok[[
      local uv, fired = require "luv", false
      local t = uv.new_timer()
      t:start(50, 0, function() fired = true t:close() end)
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(1, function() end)
      uv.fs_stat("/", function() end)
      all{ P(function()
        eq({ uv.loop_alive(), uv.run(), uv.loop_close() }, { false, false, 0 })
        uv.walk(error)
        local own, mine = uv.new_timer(), nil
        own:start(1, 0, function() mine = true own:close() end)
        collectgarbage()
        eq(uv.run(), false)
        assert(mine and not fired)
        all{ P(function() uv.new_timer():start(1, 0, function() mine = 2 end) uv.run() eq(mine, 2) end) }
      end) }
      server:close()
      uv.run()
      assert(fired)]]
  end)

  it("works in the workers of pools, however they are started", function()
    ok[[
      local uv = require "luv"
      local t = uv.new_timer()
      t:start(100000, 0, print)
      for _, method in ipairs { "fork", "spawn", "forkserver" } do
        local pool = mp.get_context(method).Pool(2)
        local results = pool:map(function(x)
          local result
          local timer = require "luv".new_timer()
          timer:start(1, 0, function() result = x * 2 timer:close() end)
          assert(require "luv".run() == false)
          return result
        end, { 1, 2, 3 })
        eq(results, { 2, 4, 6 }, method)
        pool:close()
        pool:join()
      end
      t:close()
      eq(uv.run(), false)]]
  end)
end)
