-- Names of shared objects: mp.name and mp.find.
local support = require "spec.support"
local ok = support.ok

describe("a name", function()
  it("finds its object, until it is taken back", function() ok[[
    local q = mp.Queue()
    assert(select(2, mp.find("jobs", 0)) == "timeout")
    mp.name("jobs", q)
    mp.find("jobs"):put("x")
    assert(q:get() == "x")
    mp.name("jobs", nil)
    assert(mp.find("jobs", 0) == nil)
  ]] end)

  it("keeps its object alive", function() ok[[
    mp.name("list", mp.List{ 1, 2, 3 })
    collectgarbage() collectgarbage()
    assert(#mp.find("list") == 3)
  ]] end)

  it("is told to a task that waits for it, and to another process", function() ok[[
    local q, co = mp.Queue(), mp.co
    co.spawn(function() mp.find("jobs"):put("task") end)
    local p = mp.Process(function() mp.find("jobs"):put("process") end)
    p:start()
    co.sleep(0.01)
    mp.name("jobs", q)
    local got = { q:get(), q:get() }
    table.sort(got)
    assert(got[1] == "process" and got[2] == "task")
    p:join()
  ]] end)

  it("outlives the process that gave it", function() ok[[
    local p = mp.Process(function() mp.name("left", mp.Dict{ a = 1 }) end)
    p:start()
    p:join()
    assert(mp.find("left").a == 1)
  ]] end)
end)

describe("MPENGINE_ARENA", function()
  local function script(code)
    local path = os.tmpname()
    local f = assert(io.open(path, "w"))
    f:write('local mp = require "mpengine"\n', code)
    f:close()
    return path
  end

  it("lets programs that do not know each other meet, also after one was killed", function()
    local names, finds = script 'local q = mp.Queue() mp.name("q", q) print(q:get(10))',
      script 'mp.find("q", 10):put("met")'
    local dies = script 'mp.find("q", 10) mp.subprocess.run{ "sh", "-c", "kill -9 $PPID" }'
    local run = ("MPENGINE_ARENA='spec %s' " .. support.limit .. " build/mpengine "):format(names)
    local h = assert(io.popen(("%s%s & (%s%s) 2>&-; %s%s; wait"):format(run, names, run, dies, run, finds)))
    assert.equal("met\n", h:read "a")
    h:close()
    for _, path in ipairs{ names, finds, dies } do os.remove(path) end
  end)

  -- Runs a script as `args` of its command, in an arena of its own; its output.
  local function run(code, args)
    local path = script(code)
    local h = assert(io.popen(("MPENGINE_ARENA='spec %s' %s build/mpengine %s %s 2>&1"):format(path, support.limit,
      args or "", path)))
    local text = h:read "a"
    h:close()
    os.remove(path)
    return text
  end

  for _, method in ipairs{ "fork", "spawn", "forkserver" } do
    it("is also the arena of children by " .. method .. ", and of theirs", function()
      assert.equal("found\tfound\n", run(([[
        local function find(q)
          q:put(mp.find("there", 0) and "found" or "not found")
        end
        local function child(q, method)
          local context = mp.get_context(method)
          find(q)
          local p = context.Process(find, q)
          p:start()
          p:join()
        end
        local q = mp.Queue()
        mp.name("there", q)
        local p = mp.get_context "%s".Process(child, q, "%s")
        p:start()
        p:join()
        print(q:get(0), q:get(0))
      ]]):format(method, method)))
    end)
  end

  it("is also the arena of a pool", function()
    assert.equal("3\n", run[[
      mp.name("numbers", mp.List{ 1, 2, 3 })
      print(mp.Pool(2):apply(function() return #mp.find("numbers", 0) end))
    ]])
  end)

  it("is free when a program and its children were killed", function()
    local names = script[[
      mp.name("there", mp.Queue())
      local pids = { mp.current_process().pid }
      for _ = 1, 2 do
        for _, method in ipairs{ "fork", "forkserver" } do
          local p = mp.get_context(method).Process(function() mp.sleep(60) end)
          p:start()
          pids[#pids + 1] = p.pid
        end
      end
      io.stdout:write(table.concat(pids, " "), "\n"):flush()
      mp.sleep(60)
    ]]
    local asks = script[[print(mp.find("there", 0) ~= nil)]]
    local command = ("MPENGINE_ARENA='spec %s' " .. support.limit .. " build/mpengine "):format(names)
    local h = assert(io.popen(command .. names))
    local pids = h:read "l"
    assert.equal("true\n", support.shell(command .. asks))
    os.execute("kill -9 " .. pids)
    h:close()
    assert.equal("false\n", support.shell(command .. asks))
    os.remove(names)
    os.remove(asks)
  end)
end)

describe("a wrong call", function()
  for code, message in pairs{
    ['mp.name("", mp.Queue())'] = "1 to 255 bytes",
    ['mp.name(("n"):rep(256), mp.Queue())'] = "1 to 255 bytes",
    ['mp.name("a\\0b", mp.Queue())'] = "without a zero",
    ['mp.name("x", 4)'] = "shared object or nil expected",
    ['mp.name("x")'] = "shared object or nil expected",
    ['mp.name("x", nil)'] = "there is no 'x'",
    ['local q = mp.Queue() mp.name("x", q) mp.name("x", q)'] = "'x' is taken",
    ['mp.find(nil)'] = "string expected",
    ['mp.find("x", "y")'] = "timeout",
  } do
    it(code, function()
      local r = support.run(code)
      assert.is_not.equal(0, r.status)
      assert.truthy(r.stderr:find(message, 1, true), r.stderr)
    end)
  end
end)
