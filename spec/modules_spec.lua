-- Where the library's own Lua modules come from.
local support = require "spec.support"

local read_file, write_file, quote = support.read_file, support.write_file, support.quote

-- Something that needs modules of many kinds, in processes of all kinds.
local USE = [[
  local mp = require "mpengine"
  for _, method in ipairs(mp.get_all_start_methods()) do
    local p = mp.get_context(method).Process{ target = function() require("mpengine").Dict() end }
    p:start()
    p:join()
    io.write(method, " ", p.exitcode, "\n")
  end
  local pool <close> = mp.Pool(1)
  print(pool:apply(function(x) return x + 1 end, { 1 }), mp.co.spawn(function() return 3 end):get())
]]
local DONE = "fork 0\nspawn 0\nforkserver 0\n2\t3\n"

local function in_folder(f)
  local dir = support.shell("mktemp -d"):gsub("\n$", "")
  local good, err = pcall(f, dir)
  support.shell("rm -r " .. quote(dir))
  if not good then error(err, 0) end
end

local function core_so()
  return assert(package.searchpath("mpengine.core", package.cpath))
end

local function init_lua()
  return assert(package.searchpath("mpengine", package.path))
end

describe("the library's modules", function()
  it("are in the command, which needs no Lua file", function()
    in_folder(function(dir)
      write_file(dir .. "/script.lua", USE)
      support.shell(("cp %s %s/mpengine"):format(quote(support.command), quote(dir)))
      local text = support.shell(("cd %s && env LUA_PATH=none LUA_CPATH=none ./mpengine script.lua 2>&1"):format(
        quote(dir)))
      assert.equal(DONE, text)
    end)
  end)

  it("are in mpengine/core.so, beside which stock Lua needs mpengine/init.lua alone", function()
    in_folder(function(dir)
      write_file(dir .. "/script.lua", USE)
      support.shell(("mkdir %s/mpengine && cp %s %s %s/mpengine/"):format(dir, core_so(), init_lua(), dir))
      local text = support.shell(("cd %s && env LUA_PATH='./?/init.lua' LUA_CPATH='./?.so' lua5.4 script.lua 2>&1")
        :format(quote(dir)))
      assert.equal(DONE, text)
    end)
  end)

  it("share their engine with a C module that is linked with the library", function()
    if support.lua_version ~= "5.4" then pending("the C module is built for Lua 5.4") return end
    in_folder(function(dir)
      local folder = core_so():gsub("lua/mpengine/core%.so$", "modules")
      for _, first in ipairs { "mpengine", "counter" } do
        write_file(dir .. "/script.lua", ("package.cpath = %q .. '/?.so;' .. package.cpath require %q\n")
          :format(folder, first) .. [[
            local mp, counter = require "mpengine", require "counter"
            local q = mp.Queue()
            counter.fill(q, 3)
            print(q:get(), q:get(), q:get())
            local own = counter.new_queue()
            mp.co.spawn(counter.fill, own, 1):join()
            print(own:get(), pcall(counter.fill, {}, 1))
          ]])
        for _, lua in ipairs { "lua5.4", quote(support.command) } do
          assert.equal("1\t2\t3\n1\tfalse\tfill: a queue of mpengine expected\n",
            support.shell(("cd %s && %s script.lua 2>&1"):format(quote(dir), lua)))
        end
      end
    end)
  end)

  it("are read from their files by a Lua that does not accept their bytecode", function()
    in_folder(function(dir)
      write_file(dir .. "/script.lua", USE .. [[
        print(select(2, pcall(mp.Lock().guard, mp.Lock(), "x")):match("bad argument"))
        print((debug.getinfo(mp.Pool, "S").source:gsub("^=", "", 1)))
      ]])
      write_file(dir .. "/core.so", (read_file(core_so()):gsub("\27Lua\x54", "\27Lua\x53")))
      local text = support.shell(("cd %s && mkdir mpengine && mv core.so mpengine/ && env LUA_CPATH='./?.so' lua5.4 "
        .. "script.lua 2>&1"):format(quote(dir)))
      assert.equal(DONE .. "bad argument\nmpengine/pool.lua\n", text)
    end)
  end)

  it("are named by their place in tracebacks, in a file with any name", function()
    local code = [[
      local mp = require "mpengine"
      print((debug.getinfo(mp.Process, "S").source:gsub("^=", "", 1)))
      print(debug.getinfo(mp.Process, "S").linedefined > 0)
    ]]
    support.prints("mpengine/process.lua\ntrue\n", code, { mode = "command", plain = true })
    support.prints("mpengine/process.lua\ntrue\n", code, { mode = "stock", plain = true })
  end)

  it("are not confused with a script in a folder of that name", function()
    in_folder(function(dir)
      support.shell(("mkdir %s/mpengine"):format(dir))
      write_file(dir .. "/mpengine/mine.lua", "local mp = require 'mpengine'\nmp.Lock():guard('x')\n")
      local r = support.run(nil, { mode = "command", cwd = dir, flags = { "mpengine/mine.lua" } })
      assert.equal(1, r.status)
      assert.truthy(r.stderr:find("mpengine: mpengine/mine.lua:2: bad argument", 1, true), r.stderr)
      assert.truthy(r.stderr:find("mpengine/mine.lua:2: in main chunk", 1, true), r.stderr)
    end)
  end)
end)

-- The modules of the library, in pieces of (file, text).
local function each_source(f)
  for file in support.shell("find bindings/mpengine -name '*.lua' | sort"):gmatch("%S+") do
    f(file, read_file(file))
  end
end

describe("the library's sources", function()
  it("set no field of another module, the hooks excepted", function()
    each_source(function(file, text)
      for name, module in text:gmatch('\nlocal ([%w_]+) = require "(mpengine[%w_.]*)"') do
        for line in (module == "mpengine.hooks" and "" or text):gmatch("[^\n]+") do
          local is_set = line:find("^%s*function " .. name .. "[.:]")
            or line:find("^%s*" .. name .. "%.[%w_]+%s*=[^=]")
            or line:find("^%s*" .. name .. "%.[%w_]+, .* = ")
            or line:find("^%s*" .. name .. "%[.-%]%s*=[^=]")
          assert.is_nil(is_set or nil, file .. ": " .. line)
        end
      end
    end)
  end)

  it("describe each hook, and C calls no other", function()
    local described, set, called = {}, {}, {}
    local text = read_file("bindings/mpengine/hooks.lua")
    for name in text:gmatch("alias mpengine%.hooks%.([%w_]+)") do described[name] = true end
    for name in text:gmatch("function hooks%.([%w_]+)") do described[name] = true end
    each_source(function(_, source)
      for name in source:gmatch("function hooks%.([%w_]+)") do set[name] = true end
      for name in source:gmatch("\n%s*hooks%.([%w_]+) = ") do set[name] = true end
    end)
    local calls = support.shell("grep -rho 'lmpe_push_hook(L, \"[a-z_]*\")' bindings --include='*.c'")
    for name in calls:gmatch('"([a-z_]+)"') do called[name] = true end
    called.kill_tasks = true -- by Lua
    assert.same(described, set)
    assert.same(described, called)
  end)
end)
