-- mp.get_logger: levels and handlers by name, forms, files, records of other processes.
local support = require "spec.support"
local ok = support.ok

-- got is a list of what a handler of the root logger was given; names(got) its messages.
local HEAD = [[
  local co, got = mp.co, {}
  local function keep(record) got[#got + 1] = record end
  local function messages()
    local list = {}
    for i, record in ipairs(got) do list[i] = record.message end
    return list
  end
]]
local function holds(code, opts) return ok(HEAD:gsub("\n%s*", " ") .. code, opts) end

-- A directory for the code, whose name it gets as DIR.
local function in_directory(f)
  local dir = os.tmpname()
  support.shell("rm " .. dir .. "; mkdir " .. dir)
  f(dir)
  support.shell("rm -r " .. dir)
end

local METHODS = { "fork", "spawn", "forkserver" }

describe("a logger of a name", function()
  it("is the same at each call, and has the level of the nearest one above it", function()
    ok[[
      local root, a, abc = mp.get_logger(), mp.get_logger("a"), mp.get_logger("a.b.c")
      eq(rawequal(mp.get_logger("a.b.c"), abc), true)
      eq(rawequal(mp.get_logger(""), root), true)
      eq(abc:get_level(), 30)
      root:set_level("error")
      eq(abc:get_level(), 40)
      a:set_level("debug")
      eq({ abc:get_level(), mp.get_logger("ab"):get_level() }, { 10, 40 })
      abc:set_level(15)
      eq(abc:get_level(), 15)
      abc:set_level(nil)
      eq(abc:get_level(), 10)]]
  end)

  it("gives its records to its handlers and to those above it, with time, level, name and process", function()
    holds[[
      mp.get_logger():add_handler { to = keep }
      local of_a = {}
      mp.get_logger("a"):add_handler { to = function(r) of_a[#of_a + 1] = r.message end }
      mp.get_logger("a"):set_level("info")
      mp.get_logger("a.b"):info("%d of %s", 1, "a.b")
      mp.get_logger("a.b"):debug("too low")
      mp.get_logger("ab"):error("of ab")
      eq(messages(), { "1 of a.b", "of ab" })
      eq(of_a, { "1 of a.b" })
      local r = got[1]
      eq({ r.name, r.level, r.level_name, r.process, r.pid },
        { "a.b", 20, "INFO", "MainProcess", mp.current_process().pid })
      if math.abs(r.time - os.time()) > 5 then error("time " .. r.time) end]]
  end)

  it("shows its name in lines", function()
    local r = support.run[[mp.log_to_stderr() mp.get_logger("a.b"):error("text")]]
    assert.truthy(r.stderr:find(" ERROR MainProcess%[%d+%] a%.b: text\n$"), r.stderr)
  end)

  it("refuses a level that is no number, and a path that ends in the middle", function()
    ok[[
      local log = mp.get_logger()
      for _, f in ipairs { log.set_level, log.log } do raises("number expected", f, log, 0 / 0) end
      for _, field in ipairs { "file", "ident" } do
        local to = field == "ident" and "syslog" or nil
        raises("field '" .. field .. "' must be", log.add_handler, log, { [field] = "a\0b", to = to })
      end]]
  end)

  it("refuses what is no name, no level and no handler", function()
    ok[[
      local log = mp.get_logger("a")
      raises({ "get_logger", "string expected, got number" }, mp.get_logger, 5)
      raises({ "Logger:set_level", "'loud'" }, log.set_level, log, "loud")
      raises({ "Logger:add_handler", "table expected" }, log.add_handler, log, "stderr")
      raises({ "Logger:add_handler: one of 'to' and 'file' is needed" }, log.add_handler, log, {})
      raises({ "one of 'to' and 'file'" }, log.add_handler, log, { to = "stderr", file = "x" })
      raises({ "field 'to' must be" }, log.add_handler, log, { to = "stdout" })
      raises({ "field 'format' must be" }, log.add_handler, log, { to = "stderr", format = "xml" })
      raises({ "field 'level' must be debug", "'loud'" }, log.add_handler, log, { to = "stderr", level = "loud" })
      raises({ "field 'max_bytes' must be" }, log.add_handler, log, { file = "x", max_bytes = 0 })
      raises({ "/no/such/directory" }, log.add_handler, log, { file = "/no/such/directory/x" })
      raises({ "calling 'Handler:close' on bad self" }, log:add_handler { to = print }.close, {})]]
  end)
end)

describe("a logger that is sent", function()
  it("is the logger of its name there", function()
    for _, method in ipairs(METHODS) do
      ok(([[
        mp.set_start_method(%q)
        local log, q = mp.get_logger("a.b"), mp.Queue()
        local got = {}
        log:add_handler { to = function(r) got[#got + 1] = r.name .. ": " .. r.message end }
        local p = mp.Process(function()
          local own = require("mpengine").get_logger("a.b")
          log:error("%%s %%s", own == log, own.name)
          q:put(log)
        end)
        p:start() p:join()
        eq(rawequal(q:get(), log), false)
        eq(q:qsize(), 0)
        until_true(function() return #got == 1 end)
        eq(got, { "a.b: true a.b" })]]):format(method))
    end
  end)
end)

describe("a record", function()
  it("whose arguments do not fit its format has the text as it is, with a note", function()
    holds[[
      local log = mp.get_logger()
      log:add_handler { to = keep }
      log:error("%d things", "no number")
      log:error("%y")
      log:error("%y", 5)
      log:error("%s and %s", "one")
      log:error({}, 5)
      log:error("100%")
      log:error(nil)
      log:error("%s", setmetatable({}, { __tostring = function() error "no text" end }))
      log:log("error", "%d", 1.5)
      eq(#got, 9)
      local texts = messages()
      for i, part in pairs { "%d things (not formatted: ", "%y", "%y (not formatted: ", "%s and %s (not formatted: ",
        [6] = "100%", [7] = "nil", [8] = "%s (not formatted: ", [9] = "%d (not formatted: " } do
        if texts[i]:sub(1, #part) ~= part then error(i .. ": " .. texts[i]) end
      end
      eq(texts[1]:match("; arguments: (.*)%)$"), "no number")]]
  end)

  it("is an object of JSON when a handler asks for it", function()
    local r = support.run[[
      mp.get_logger("a"):add_handler { to = "stderr", format = "json" }
      mp.get_logger("a"):warning('a "text"\nof two lines \255')]]
    local pattern = '^{"time":"%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ","level":"WARNING","logger":"a",'
      .. '"process":"MainProcess","pid":%d+,"message":"(.*)"}\n$'
    local message = r.stderr:match(pattern)
    assert.truthy(message, r.stderr)
    assert.equal([[a \"text\"\nof two lines ]], message:sub(1, 25))
    assert.equal("\u{FFFD}", message:sub(26))
  end)
end)

describe("a handler", function()
  it("takes records from its level on, in its form, until it is closed", function()
    holds[[
      local log, lines = mp.get_logger(), {}
      log:set_level("debug")
      local handler = log:add_handler {
        level = "error", format = function(r) return r.level_name .. "!" .. r.message end,
        to = function(_, line) lines[#lines + 1] = line end,
      }
      log:add_handler { to = keep }
      log:info("one")
      log:error("two")
      handler:close()
      handler:close()
      log:error("three")
      eq(lines, { "ERROR!two" })
      eq(messages(), { "one", "two", "three" })]]
  end)

  it("that fails raises nothing, says so once, and does not keep the others from the record", function()
    local r = support.run(HEAD:gsub("\n%s*", " ") .. [[
      local log = mp.get_logger()
      log:add_handler { to = function() error "of the handler" end }
      log:add_handler { to = keep }
      log:add_handler { to = keep, format = function() error "of the form" end }
      log:error("one")
      log:error("two")
      eq(messages(), { "one", "one", "two", "two" })]])
    assert.equal(0, r.status, r.stderr)
    assert.truthy(r.stderr:find("^mpengine: a handler of the log failed: [^\n]*of the handler\n$"), r.stderr)
  end)

  -- Each comes to stay() while a record is written.
  local STAYS <const> = {
    "log:add_handler { to = stay }",
    "log:add_handler { to = 'stderr', format = function() stay() return 'line' end }",
    "log:add_handler { to = function() end } text = speaking",
    "log:add_handler { to = function() end } text, value = '%s', speaking",
  }
  local STAYING <const> = [[
    local co, log, text, value = mp.co, mp.get_logger(), "text", nil
    local function stay() BEGIN WAY end
    local speaking = setmetatable({}, { __tostring = function() stay() return "spoken" end })
    SITE
  ]]
  local function staying(site, begin, way)
    return (STAYING:gsub("%u%u+", { BEGIN = begin, WAY = way, SITE = site }):gsub("\n%s*", " "))
  end

  it("lets a signal that ends the program pass", function()
    if support.mode == "stock" then return pending "the command's handling" end
    for _, way in ipairs { "while true do end", "mp.sleep(1000)", "co.Event():wait()" } do
      for i, site in ipairs(STAYS) do
        local name, status = "INT", 130
        if i % 2 == 0 then name, status = "TERM", 143 end
        local r = support.run(staying(site, ("io.popen('kill -%s $PPID'):close()"):format(name), way)
          .. "log:error(text, value) print 'it went on'")
        assert.equal(status, r.status, r.stderr)
        assert.equal("", r.stdout)
        assert.falsy(r.stderr:find("handler of the log", 1, true), r.stderr)
      end
    end
  end)

  it("lets the end of the task pass, and says nothing of it", function()
    for i = 1, 2 do -- in the others Lua cannot yield, so the main chunk has no turn
      local site = STAYS[i]
      ok("local began = mp.co.Event() " .. staying(site, "began:set()", "mp.sleep(1000)") .. [[
        local t = co.spawn(function() log:error(text, value) end)
        began:wait()
        t:kill()
        t:join()
        eq({ t:successful(), t.error.kind }, { false, "killed" })
        eq(table.pack(co.with_timeout(0.01, function() log:error(text, value) end)), { nil, "timeout", n = 2 })]])
    end
  end)

  it("may log itself, and does not get that", function()
    holds[[
      local log = mp.get_logger()
      log:add_handler { to = keep }
      log:add_handler { to = function(r) if r.name == "" then log:error("from the handler") end end }
      log:error("one")
      eq(messages(), { "one", "from the handler" })]]
  end)

  it("writes a file, which begins anew when it is full", function()
    in_directory(function(dir)
      ok(([[
        local dir = %q
        local log = mp.get_logger()
        log:add_handler { file = dir .. "/log", max_bytes = 20, keep = 2, format = function(r) return r.message end }
        for i = 1, 9 do log:error("record %%d", i) end
        local function read(name)
          local f <close> = io.open(dir .. "/" .. name)
          return f and f:read("a")
        end
        eq({ read("log"), read("log.1"), read("log.2"), read("log.3") },
          { "record 9\n", "record 7\nrecord 8\n", "record 5\nrecord 6\n" })
        local function form(r) return r.message end
        mp.get_logger("again"):add_handler { file = dir .. "/log", format = form }
        mp.get_logger("again"):error("appended")
        eq({ read("log"), read("log.1") }, { "appended\n", "record 9\nappended\n" })
        log:error("a record that is longer than the file may be")
        eq(read("log.1"), "appended\n")]]):format(dir))
    end)
  end)

  it("says when its file is full, and goes on", function()
    local r = support.run[[
      local log = mp.get_logger()
      log:add_handler { file = "/dev/full" }
      log:error("one") log:error("two")]]
    assert.equal(0, r.status, r.stderr)
    local said = "^mpengine: a handler of the log failed: /dev/full: No space left on device\n$"
    assert.truthy(r.stderr:find(said), r.stderr)
  end)

  it("reaches syslog and the journal, with its level, of children too", function()
    local script = os.tmpname()
    support.write_file(script, [[
      local mp = require "mpengine"
      local log = mp.get_logger("shop")
      log:set_level("debug")
      log:add_handler { to = "syslog", ident = "spec" }
      log:add_handler { to = "journald", ident = "spec" }
      log:error("%s", "100%n")
      local p = mp.Process { name = "w1", target = function() log:debug("two\nlines \255 \0.") end }
      p:start()
      p:join()
      log:critical(("y"):rep(300000))]])
    local text = support.shell(("cd %s && timeout -s KILL 60 unshare -m python3 spec/support/logd.py %s %s 2>&1")
      :format(support.quote(support.root), support.quote(support.command), script))
    os.remove(script)
    if text:find("unshare", 1, true) then return pending("needs a mount namespace: " .. text) end
    local function expect(pattern)
      assert.truthy(text:find(pattern), pattern .. " is not in\n" .. text:sub(1, 4000))
    end
    expect 'syslog "<11>%u%l%l [ %d]%d %d%d:%d%d:%d%d spec: MainProcess%[%d+%] shop: 100%%n"\n'
    expect 'syslog "<15>[^\n]* spec: w1%[%d+%] shop: two\\nlines \\u00ff \\\\0%."\n'
    expect 'syslog "<10>[^\n]* shop: y+y %(cut: 300%d%d%d bytes%)"\n'
    expect('journal %[%["MESSAGE", "100%%n"%], %["PRIORITY", "3"%], %["SYSLOG_IDENTIFIER", "spec"%], '
      .. '%["LOGGER", "shop"%], %["PROCESS_NAME", "MainProcess"%], %["PROCESS_PID", "%d+"%]%]\n')
    expect 'journal %[%["MESSAGE", "two\\nlines \\u00ff \\u0000%."%], %["PRIORITY", "7"%], [^\n]*"w1"'
    local _, _, ys = text:find '%["MESSAGE", "(y+)"%], %["PRIORITY", "2"%]'
    assert.equal(300000, #(ys or ""))
    expect "status 0\n$"
  end)

  it("writes to syslog and to the journal, whether or not they are there", function()
    ok[[
      mp.get_logger("a"):add_handler { to = "syslog", ident = "spec" }
      mp.get_logger("a"):error("to syslog: %s", "%s%n")
      local good, why = pcall(mp.get_logger("b").add_handler, mp.get_logger("b"), { to = "journald" })
      if not good and not why:find("the journal needs libsystemd", 1, true) then error(why) end
      mp.get_logger("b"):error("to the journal\nof two lines")]]
  end)
end)

describe("a logger that does not propagate", function()
  it("keeps its records, and those of loggers below it, from the handlers above", function()
    holds[[
      mp.get_logger():add_handler { to = keep }
      local a, of_a = mp.get_logger("a"), {}
      a:add_handler { to = function(r) of_a[#of_a + 1] = r.message end }
      eq(a:get_propagate(), true)
      a:set_propagate(false)
      eq({ a:get_propagate(), mp.get_logger("a.b"):get_propagate() }, { false, true })
      mp.get_logger("a.b"):error("one")
      a:error("two")
      mp.get_logger("ab"):error("three")
      a:set_propagate(true)
      a:error("four")
      eq(messages(), { "three", "four" })
      eq(of_a, { "one", "two", "four" })
      raises({ "Logger:set_propagate", "boolean expected" }, a.set_propagate, a, "no")]]
  end)

  it("does so for children, and a child for itself", function()
    for _, method in ipairs(METHODS) do
      holds(([[
        mp.set_start_method(%q)
        mp.get_logger():add_handler { to = keep }
        local a, of_a = mp.get_logger("a"), {}
        a:add_handler { to = function(r) of_a[#of_a + 1] = r.message end }
        a:set_propagate(false)
        P(function()
          local log = require("mpengine").get_logger
          log("a.b"):error("one")
          log("c"):set_propagate(false)
          log("c"):error("of c")
          log("a"):set_propagate(true)
          log("a"):error("two")
          log():error("end")
        end):join()
        until_true(function() return #got == 1 end)
        eq(messages(), { "end" })
        eq(of_a, { "one", "two" })]]):format(method))
    end
  end)
end)

describe("a file of the log", function()
  it("is shared by processes that write and rename it, without a loss and without a part of a line", function()
    in_directory(function(dir)
      ok(([[
        local dir = %q
        local list, each = {}, 400
        for n = 1, 4 do
          list[n] = P(function()
            local log = mp.get_logger("own")
            log:set_propagate(false)
            local function form(r) return r.message end
            log:add_handler { file = dir .. "/log", max_bytes = 5000, keep = 100, format = form }
            for i = 1, each do log:error("%%d:%%d %%s", n, i, ("x"):rep(i %% 30)) end
          end)
        end
        all(list)
        local seen, last = 0, {}
        for k = 100, 0, -1 do
          local f = io.open(dir .. "/log" .. (k > 0 and "." .. k or ""))
          if f then
            if f:seek("end") > 5000 then error("too long: " .. k) end
            f:seek("set")
            for line in f:lines() do
              local n, i, x = line:match("^(%%d):(%%d+) (x*)$")
              if not n then error("a part of a line: " .. line) end
              i = tonumber(i)
              eq({ i, #x }, { (last[n] or 0) + 1, i %% 30 })
              last[n], seen = i, seen + 1
            end
            f:close()
          end
        end
        eq(seen, 4 * each)]]):format(dir))
    end)
  end)

  it("is begun anew when another program has moved it away", function()
    in_directory(function(dir)
      ok(([[
        local path = %q .. "/log"
        local log = mp.get_logger()
        log:add_handler { file = path, format = function(r) return r.message end }
        log:error("one")
        os.rename(path, path .. ".old")
        log:error("two")
        os.remove(path)
        log:error("three")
        local function read(name) local f <close> = io.open(name) return f:read("a") end
        eq({ read(path .. ".old"), read(path) }, { "one\n", "three\n" })]]):format(dir))
    end)
  end)

  it("that cannot be renamed is written on, and that is said once", function()
    local r = support.run[[
      local log = mp.get_logger()
      local path = os.tmpname()
      log:add_handler { file = path, max_bytes = 10, keep = 1, format = function(r) return r.message end }
      os.execute("mkdir " .. path .. ".1")
      for i = 1, 3 do log:error("record %d", i) end
      local f = io.open(path)
      io.write(f:read("a"))
      os.execute("rm -r " .. path .. "*")]]
    assert.equal("record 1\nrecord 2\nrecord 3\n", r.stdout)
    assert.truthy(r.stderr:find("^mpengine: a handler of the log failed: [^\n]*Is a directory\n$"), r.stderr)
  end)

  it("at the limit of file sizes is an error that is said, and no end of the process", function()
    in_directory(function(dir)
      local r = support.run(([[
        local log = mp.get_logger()
        log:add_handler { file = %q .. "/log", format = function(r) return r.message end }
        os.execute("prlimit --fsize=1000000 --pid $PPID")
        for i = 1, 3 do log:error(("%%d"):format(i):rep(600000)) end
        print "goes on"]]):format(dir))
      assert.same({ 0, "goes on\n" }, { r.status, r.stdout })
      local said = "^mpengine: a handler of the log failed: [^\n]*File too large %(ulimit %-f%)\n$"
      assert.truthy(r.stderr:find(said), r.stderr)
      assert.truthy(support.read_file(dir .. "/log"):find("1\n$"))
    end)
  end)

  it("has whole records only of processes that are killed while they log, each in its order", function()
    in_directory(function(dir)
      ok(([[
        local path = %q .. "/log"
        local taken = mp.co.Event()
        mp.get_logger():add_handler { file = path, format = "json" }
        mp.get_logger():add_handler { to = function(r) if r.message == "the last" then taken:set() end end }
        local pattern = '^{"time":"[^"]*","level":"ERROR","logger":"","process":"w%%d+","pid":(%%d+),'
          .. '"message":"(%%d+) (x*)"}$'
        for round = 1, 20 do
          local begun = mp.Event()
          local p = mp.Process { name = "w" .. round, target = function()
            for i = 1, 400 do -- all of them have room
              if i == round * 7 then begun:set() end
              mp.get_logger():error("%%d %%s", i, ("x"):rep(i %% 500))
            end
            mp.sleep(60)
          end }
          p:start()
          begun:wait()
          p:kill()
          p:join()
        end
        P(function() mp.get_logger():error("the last") end):join()
        taken:wait()
        local last, n = {}, 0
        for line in io.lines(path) do
          local pid, i, x = line:match(pattern)
          if pid then
            i = math.tointeger(i)
            eq({ i, #x }, { (last[pid] or 0) + 1, i %% 500 })
            n = n + (last[pid] and 0 or 1)
            last[pid] = i
          elseif not line:find('"the last"', 1, true) then
            error("no record: " .. line)
          end
        end
        eq(n, 20)]]):format(dir))
    end)
  end)
end)

describe("a line of JSON", function()
  it("is valid JSON in valid UTF-8 whatever bytes a record has", function()
    in_directory(function(dir)
      ok(([[
        mp.get_logger():add_handler { file = %q .. "/log", format = "json" }
        math.randomseed(4)
        local parts = { "\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "\u{10FFFF}", "\u{2028}", "\0",
          "\27[1m", "\127", "\x85", '"', "\\", "/", "\r\n", "text", "\u{E9}", "\xe2\x82" }
        for i = 1, 3000 do
          local t = {}
          for k = 1, math.random(0, 8) do
            t[k] = math.random(2) == 1 and parts[math.random(#parts)] or string.char(math.random(0, 255))
          end
          local text = table.concat(t)
          mp.get_logger("a" .. text):log(i %% 2 == 0 and "error" or 40.5, text:gsub("%%%%", "%%%%%%%%"))
        end
        local name = "\xff\"\n"
        mp.Process { name = name, target = function() mp.get_logger():error("child") end }:start()]]):format(dir))
      local text = support.shell(([==[python3 -c '
import json, sys
lines = open(sys.argv[1], "rb").read().decode("utf-8", "strict").split(chr(10))
records = [json.loads(line) for line in lines[:-1]]
assert lines[-1] == "" and len(records) == 3001, len(records)
for r in records: assert sorted(r) == ["level", "logger", "message", "pid", "process", "time"], r
print(records[-1]["message"])' %s/log 2>&1]==]):format(dir))
      assert.equal("child\n", text)
    end)
  end)
end)

describe("a process that takes its records late", function()
  it("keeps no child waiting for ever: records without room are dropped, counted and said", function()
    holds[[
      mp.get_logger("own"):add_handler { to = keep }
      local p = P(function()
        local log, late = mp.get_logger("own"), mp.parent_process().pid
        kill(late, "STOP")
        for i = 1, 12000 do log:error("record %d", i) end
        kill(late, "CONT")
      end)
      p:join()
      until_true(function() return #got == 10001 end)
      for i = 1, 10000 do eq(got[i].message, "record " .. i) end
      local said = got[10001]
      eq({ said.message, said.process, said.level },
        { "2000 records of other processes dropped: 10000 waited already", "MainProcess", 40 })]]
  end)

  it("is told where records are missing when a child goes on", function()
    holds[[
      mp.get_logger():add_handler { to = keep }
      local more = mp.Event()
      local p = P(function()
        local log, late = mp.get_logger(), mp.parent_process().pid
        kill(late, "STOP")
        for i = 1, 10005 do log:error("record %d", i) end
        kill(late, "CONT")
        more:wait()
        log:error("after")
      end)
      until_true(function() return #got == 10001 end)
      more:set()
      p:join()
      until_true(function() return #got == 10002 end)
      eq({ got[10000].message, got[10001].message, got[10002].message },
        { "record 10000", "5 records of other processes dropped: 10000 waited already", "after" })]]
  end)

  it("gets what children log while its end waits for them, under stock Lua too", function()
    in_directory(function(dir)
      for _, mode in ipairs { "command", "stock" } do
        local file = dir .. "/" .. mode
        ok(([[
          mp.get_logger():add_handler { file = %q, format = function(r) return r.message end }
          local go = mp.Event()
          P(function()
            go:wait()
            for i = 1, 20000 do mp.get_logger():error("%%d", i) end
          end)
          go:set()]]):format(file), { mode = mode })
        local text = support.read_file(file)
        assert.equal(20000, select(2, text:gsub("\n", "")))
        assert.equal("20000\n", text:sub(-6))
      end
    end)
  end)
end)

describe("the records of children", function()
  it("come to the handlers of the process that started them, in their order", function()
    for _, method in ipairs(METHODS) do
      holds(([[
        mp.set_start_method(%q)
        local log = mp.get_logger()
        log:add_handler { to = keep }
        mp.get_logger("a.b"):set_level("debug")
        local turns = { mp.Semaphore(1), mp.Semaphore(0) }
        local list = {}
        for i = 1, 2 do
          list[i] = mp.Process { name = "w" .. i, args = { i, turns }, target = function(n, turn)
            for k = 1, 50 do
              turn[n]:acquire()
              require("mpengine").get_logger("a.b"):debug("%%d of %%d", k, n)
              turn[3 - n]:release()
            end
          end }
          list[i]:start()
        end
        all(list)
        until_true(function() return #got == 100 end)
        for k = 1, 50 do
          eq({ got[2 * k - 1].message, got[2 * k].message }, { k .. " of 1", k .. " of 2" })
        end
        local r = got[1]
        eq({ r.process, r.pid, r.name, r.level }, { "w1", list[1].pid, "a.b", 10 })]]):format(method))
    end
  end)

  it("are all there at the end of the program, also of daemons and of a child that ended by a signal", function()
    in_directory(function(dir)
      for _, mode in ipairs { "command", "stock" } do
        local file = dir .. "/" .. mode
        ok(([[
          local log = mp.get_logger()
          log:add_handler { file = %q, format = function(r) return r.message end }
          for i = 1, 3 do
            local said = mp.Event()
            local p = mp.Process { daemon = i == 2, target = function()
              log:error("from %%d", i)
              said:set()
              if i > 1 then mp.sleep(60) end
            end }
            p:start()
            said:wait()
            if i == 3 then p:kill() p:join() end
          end]]):format(file), { mode = mode })
        assert.equal("from 1\nfrom 2\nfrom 3\n", support.read_file(file), mode)
      end
    end)
  end)

  it("come from grandchildren and workers of pools too, through handlers in between", function()
    holds[[
      mp.get_logger():add_handler { to = keep }
      local between = mp.List()
      local p = P(function()
        P(function() mp.get_logger():error("plain grandchild") end):join()
        mp.get_logger():add_handler { to = function(r) between:append(r.message) end }
        P(function() mp.get_logger():error("grandchild") end):join()
      end)
      p:join()
      local pool <close> = mp.Pool(1)
      pool:apply(function() mp.get_logger():error("worker") end)
      until_true(function() return #got == 3 end)
      eq(messages(), { "plain grandchild", "grandchild", "worker" })
      eq(between:copy(), { "grandchild" })]]
  end)

  it("are written once by each process after log_to_stderr", function()
    for _, method in ipairs(METHODS) do
      local r = support.run(([[
        mp.set_start_method(%q)
        mp.log_to_stderr("info")
        mp.get_logger("quiet"):set_level("error")
        P(function()
          local log = require("mpengine")
          log.get_logger():info("child")
          log.get_logger("quiet.one"):info("not this")
        end):join()
        mp.get_logger("a"):info("parent")]]):format(method))
      assert.truthy(r.stderr:find("^[^\n]* child\n[^\n]* a: parent\n$"), r.stderr)
    end
  end)

  it("keep no program from its end, and hide no deadlock", function()
    ok[[mp.get_logger():add_handler { to = print }]]
    local r = support.run[[
      mp.get_logger():add_handler { to = print }
      mp.co.Event():wait()]]
    assert.equal(1, r.status)
    assert.truthy(r.stderr:find("every task waits for something that can never come", 1, true), r.stderr)
  end)
end)
