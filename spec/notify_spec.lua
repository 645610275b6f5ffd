-- What a service manager is told through NOTIFY_SOCKET: spec/support/notified.py is one.
local support = require "spec.support"
local quote, shell = support.quote, support.shell

local function new_name(kind)
  local path = os.tmpname()
  os.remove(path)
  return kind == "abstract" and "@" .. path or path
end

-- What the program of these arguments says until it has ended, its output, and its exit status.
local function said_by(arguments, opts)
  opts = opts or {}
  local name = new_name(opts.kind)
  local text = shell(("cd %s && %s python3 spec/support/notified.py %s %d %d %s %s 2>/dev/null"):format(
    quote(support.root), support.limit, quote(name), opts.beats or 0, opts.seconds or 20, quote(support.command),
    arguments))
  os.remove(name)
  return text
end

local function said(code, opts)
  local script = os.tmpname()
  support.write_file(script, 'local mp = require "mpengine"\n' .. code)
  local text = said_by(quote(script), opts)
  os.remove(script)
  return text
end

local STREAM = [[
  mp.server.StreamServer{ name = "echo", port = 0, workers = %d, handler = function() end }:serve_forever()]]

describe("a service manager is told", function()
  it("that a server listens, and that it stops, by path and by abstract name", function()
    for _, kind in ipairs{ "path", "abstract" } do
      for workers = 0, 1 do
        local text = said(STREAM:format(workers), { kind = kind })
        assert.truthy(text:find("^READY=1\nSTATUS=echo on 127%.0%.0%.1:%d+\nSTOPPING=1\n0\n$"), text)
      end
    end
  end)

  it("that an HTTP server listens", function()
    local text = said [[mp.http.serve{ port = 0, handler = function() return 200 end }:serve_forever()]]
    assert.truthy(text:find "^READY=1\nSTATUS=[^\n]+ on 127%.0%.0%.1:%d+\nSTOPPING=1\n0\n$", text)
  end)

  it("that all children of a supervisor are ready, by the supervisor alone", function()
    local text = said [[
      local gate, told = mp.Event(), mp.Event()
      mp.Process{ daemon = true, target = function()
        told:wait()
        gate:set()
      end }:start()
      local function serve(i)
        if i == 2 then
          told:set()
          gate:wait()
          io.stdout:write("released\n"):flush()
        end
        mp.ready()
        mp.server.StreamServer{ handler = print }:serve_forever()
      end
      mp.Supervisor{
        { name = "one", target = serve, args = { 1 }, ready = true },
        { name = "two", target = serve, args = { 2 }, ready = true },
      }:run()]]
    assert.equal("released\nREADY=1\nSTATUS=supervisor: 2 children\nSTOPPING=1\n0\n", text)
  end)

  it("that a worker of remote pools takes tasks", function()
    local redis = require "spec.support.redis"
    local server = redis.start()
    local text = said_by("worker -j 1 " .. server.url, { beats = 1 })
    redis.remove(server)
    assert.truthy(text:find "^READY=1\nSTATUS=1 processes, unix[^\n]+\nWATCHDOG=1\nSTOPPING=1\n0\n$", text)
  end)

  it("by signs of life that its tasks run, when they are wanted", function()
    local text = said(STREAM:format(0), { beats = 3 })
    assert.truthy(text:find "\nWATCHDOG=1\nSTOPPING=1\n0\n$", text)
    text = said([[mp.Supervisor{ { name = "one", target = function() mp.sleep(60) end } }:run()]], { beats = 3 })
    assert.truthy(text:find "\nWATCHDOG=1\nSTOPPING=1\n0\n$", text)
  end)

  it("no sign of life while a task computes", function()
    local text = said([[
      mp.co.spawn(function() while true do end end)
      ]] .. STREAM:format(0), { beats = 1, seconds = 2 })
    assert.truthy(text:find "\nnothing was said in time", text)
  end)

  it("what a plain script says, line by line, by path and by abstract name", function()
    for _, kind in ipairs{ "path", "abstract" } do
      local text = said([[
        local stop = mp.Event()
        mp.signal("TERM", function()
          assert(mp.notify{ stopping = true, status = "ends" })
          stop:set()
        end)
        assert(mp.notify{ status = "reads\na\27 file" })
        assert(mp.notify{ reloading = true })
        mp.Process(function() assert(not mp.notify{ status = "of a child" }) end):start()
        mp.active_children()
        assert(mp.notify{ ready = true, status = "serves" })
        stop:wait()]], { kind = kind })
      assert.truthy(text:find("^STATUS=reads\\na\\x1b file\nRELOADING=1\nMONOTONIC_USEC=%d+\nREADY=1\nSTATUS=serves\n"
        .. "STOPPING=1\nSTATUS=ends\n0\n$"), text)
    end
  end)

  it("by a script that is ready, that its tasks run, at half of the time of the watchdog", function()
    local text = said([[
      local stop = mp.Event()
      mp.signal("TERM", function() mp.notify{ stopping = true } stop:set() end)
      mp.notify{ ready = true }
      mp.notify{ ready = true } -- one task gives the signs
      stop:wait()]], { beats = 4 })
    assert.truthy(text:find "^READY=1\nWATCHDOG=1\nSTOPPING=1\n0\n$", text)
    text = said([[
      mp.notify{ ready = true }
      while true do end]], { beats = 1, seconds = 2 })
    assert.truthy(text:find "^READY=1\nnothing was said in time\n", text)
  end)

  it("nothing by a script without a manager, and of what is no state", function()
    support.ok[[
      eq({ mp.notify{ ready = true } }, { nil, "no manager" })
      raises({ "notify", "table expected" }, mp.notify, "ready")
      raises({ "notify", "field 'ready' must be a boolean" }, mp.notify, { ready = 1 })
      raises({ "notify", "'watchdog'" }, mp.notify, { watchdog = true })]]
  end)

  it("nothing about a process that is not the one to be watched", function()
    support.ok([[
      local mp = require "mpengine"
      local s = mp.server.StreamServer{ handler = print }
      mp.co.spawn(function() s:stop() end)
      s:serve_forever()]], { env = { WATCHDOG_USEC = "1", WATCHDOG_PID = "1" } })
  end)

  it("nothing without a manager, and what cannot be told is reported once and harms nothing", function()
    for name, report in pairs{ [""] = "^$", ["/no/such/socket"] = "^[^\n]*NOTIFY_SOCKET[^\n]*No such file[^\n]*\n$",
      ["no path"] = "^[^\n]*NOTIFY_SOCKET[^\n]*Invalid argument[^\n]*\n$" } do
      local r = support.run([[
        for _ = 1, 2 do
          local s = mp.server.StreamServer{ handler = print }
          mp.co.spawn(function() s:stop() end)
          s:serve_forever()
        end
        print "served"]], { env = { NOTIFY_SOCKET = name } })
      assert.same({ 0, "served\n" }, { r.status, r.stdout })
      assert.truthy(r.stderr:find(report), r.stderr)
    end
  end)
end)
