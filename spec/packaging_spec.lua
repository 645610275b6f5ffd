-- What is put beside the command: manual pages, completions, the installed tree, the sources.
local support = require "spec.support"
local shell, quote, read_file = support.shell, support.quote, support.read_file

local function source(path) return read_file(support.root .. "/packaging/" .. path) end

local function help(verb) return shell(quote(support.command) .. " " .. (verb or "") .. " --help") end

-- The verbs that the help shows: `mpengine dump [PID]`.
local function verbs()
  local list = {}
  for verb in help():gmatch "\n +mpengine (%l+)" do list[#list + 1] = verb end
  assert.truthy(#list >= 9, "the help shows verbs")
  return list
end

local function options_of(text)
  local list = {}
  for option in text:gmatch "%f[%-%w]%-%-?%a[%l-]*" do list[#list + 1] = option end
  return list
end

-- A manual page as text, without the escapes of roff.
local function page(name) return (source("man/" .. name .. ".1"):gsub("\\%-", "-")) end

local COMPLETIONS = { "mpengine.bash", "_mpengine", "mpengine.fish" }

describe("the manual pages and completions", function()
  it("have each verb that the help shows", function()
    for _, verb in ipairs(verbs()) do
      assert.truthy(page("mpengine-" .. verb):find(".TH MPENGINE-" .. verb:upper(), 1, true), verb)
      assert.truthy(page("mpengine"):find("mpengine-" .. verb .. " (1)", 1, true), verb)
      for _, file in ipairs(COMPLETIONS) do
        assert.truthy(source("completions/" .. file):find("%f[%w]" .. verb .. "%f[%W]"), file .. ": " .. verb)
      end
    end
  end)

  it("have each option that the help shows, of the command and of the verbs", function()
    local function expect(where, text)
      for _, option in ipairs(options_of(text)) do
        assert.truthy(page(where):find(option, 1, true), where .. ": " .. option)
        assert.truthy(source("completions/mpengine.bash"):find(option, 1, true), "bash: " .. option)
        assert.truthy(source("completions/_mpengine"):find(option, 1, true), "zsh: " .. option)
        local fish = option:gsub("^%-%-", "-l "):gsub("^%-(%a)$", "-s %1")
        assert.truthy(source("completions/mpengine.fish"):find(fish, 1, true), "fish: " .. option)
      end
    end
    expect("mpengine", help():match "\n  %-e.*")
    for _, verb in ipairs(verbs()) do expect("mpengine-" .. verb, help(verb)) end
  end)

  it("have each environment variable that the sources read, and so have the help and the manual", function()
    local names = shell(([[cd %s && { grep -rhoE '"(MPENGINE_[A-Z_]+|[a-z]+_proxy)"' engine/os bindings \
      --include=*.c --include=*.lua; grep -rhoE 'getenv ?\(?"[A-Za-z_]+"' engine bindings --include=*.c \
      --include=*.lua --exclude=*_test.c --exclude-dir=testing --exclude-dir=examples --exclude-dir=hosts; } \
      | sed 's/.*"\(.*\)"/\1/' | sort -u]]):format(quote(support.root)))
    local manual, count = read_file(support.root .. "/docs/operating.md"), 0
    for name in names:gmatch "[%a_]+" do
      local lower = name:lower()
      local same = lower:find "_proxy$" and lower or name -- NO_PROXY is no_proxy
      if name ~= "MPENGINE_CHILD" then -- the engine's own
        count = count + 1
        assert.truthy(help():match "environment:.*":find("%f[%w_]" .. same .. "%f[^%w_]"), name)
        assert.truthy(page("mpengine"):match "\n.SH ENVIRONMENT.*":find("%f[%w_]" .. same .. "%f[^%w_]"), name)
        assert.truthy(manual:find("`" .. same .. "`", 1, true), name)
      end
    end
    assert.truthy(count >= 18, names)
  end)

  local function completed(...)
    local words = {}
    for i, word in ipairs { ... } do words[i] = quote(word) end
    return shell(([[bash -c '. packaging/completions/mpengine.bash
      COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _mpengine; printf "%%s " "${COMPREPLY[@]}"' bash mpengine %s]])
      :format(table.concat(words, " ")))
  end

  it("complete verbs, options, scripts and pids in bash", function()
    assert.equal("worker ", completed "wor")
    assert.equal("--version ", completed "--ver")
    assert.equal("scripts/pool.lua ", completed "scripts/pool.l")
    assert.equal("--key-file ", completed("worker", "--k"))
    assert.equal("README.md ", completed("worker", "--key-file", "README"))
    assert.equal("list retry drop ", (completed("dead", ""):gsub("%-.*", "")))
    local r = support.run([[io.write(mp.current_process().pid, "\n", (io.popen(arg[1]):read "a"))]], {
      mode = "command", args = { ([[PATH="%s:$PATH" bash -c '. packaging/completions/mpengine.bash
        COMP_WORDS=(mpengine dump "") COMP_CWORD=2; _mpengine; printf "%%s\n" "${COMPREPLY[@]}"']])
        :format(support.command:match "(.*)/") } })
    local pid, listed = r.stdout:match "^(%d+)\n(.*)"
    assert.truthy(("\n" .. listed):find("\n" .. pid .. "\n", 1, true), r.stdout .. r.stderr)
  end)
end)

describe("make install", function()
  local build = os.getenv "BUILD" or support.root .. "/build"
  local make = ("make -s -C %s BUILD=%s "):format(quote(support.root), quote(build))
  local roots = {}

  local function new_root()
    local dir = shell "mktemp -d":gsub("\n", "")
    roots[#roots + 1] = dir
    return dir
  end

  teardown(function()
    for _, dir in ipairs(roots) do shell("rm -r " .. quote(dir)) end
  end)

  local function files(dir) return shell(("cd %s && find . ! -type d | sort"):format(quote(dir))) end

  -- Installs by these settings into a root of its own: the root, and the directory of the libraries.
  local function install(settings)
    local root = new_root()
    local ok = os.execute(make .. "install DESTDIR=" .. root .. " " .. settings .. " >" .. root .. "/log 2>&1")
    assert.truthy(ok, read_file(root .. "/log"))
    os.remove(root .. "/log")
    return root
  end

  it("puts all below DESTDIR, for any prefix and directory of libraries, and uninstall removes it", function()
    for settings, at in pairs {
      [""] = { "/usr/local", "/usr/local/lib" },
      ["PREFIX=/usr LIBDIR=/usr/lib/machine"] = { "/usr", "/usr/lib/machine" },
      ["PREFIX=/opt/with-dash"] = { "/opt/with-dash", "/opt/with-dash/lib" },
    } do
      local root = install(settings)
      local prefix, lib = root .. at[1], root .. at[2]
      assert.equal("42\n", shell(prefix .. "/bin/mpengine -e 'print(require(\"mpengine\").Value(\"q\", 42).value)'"))
      assert.equal("42\n", shell(("LD_PRELOAD=%s LUA_PATH='%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua' "
        .. "LUA_CPATH='%s/lua/5.4/?.so' lua5.4 -e 'print(require(\"mpengine\").Value(\"q\", 42).value)'")
        :format(os.getenv "PRELOAD" or "", prefix, prefix, lib)))
      for _, pc in ipairs { "mpengine", "mpengine-lua" } do
        local text = read_file(lib .. "/pkgconfig/" .. pc .. ".pc")
        assert.truthy(text:find("prefix=" .. at[1] .. "\n", 1, true) and text:find("libdir=" .. at[2] .. "\n", 1, true))
      end
      assert.truthy(read_file(prefix .. "/share/mpengine/luarc.json"):find(at[1] .. "/share/mpengine/library", 1, true))
      for _, unit in ipairs { "worker", "server" } do
        local text = read_file(("%s/lib/systemd/system/mpengine-%s@.service"):format(prefix, unit))
        assert.truthy(text:find("ExecStart=" .. at[1] .. "/bin/mpengine ", 1, true), text)
      end
      local dangling = shell(("find %s -xtype l"):format(root))
      assert.equal("", dangling)
      shell(make .. "uninstall DESTDIR=" .. root .. " " .. settings)
      assert.equal("", files(root))
    end
  end)

  it("puts the same into a rock, wherever that is: a packed one is installed elsewhere", function()
    local trees = { new_root(), new_root() }
    for _, tree in ipairs(trees) do
      local places = ("ROCK_PREFIX=%s ROCK_LIB=%s/lib ROCK_LUA=%s/lua ROCK_BIN=%s/bin"):format(tree, tree, tree, tree)
      local ok = os.execute(make .. "install-rock " .. places .. " >/dev/null")
      assert.truthy(ok)
    end
    assert.truthy(files(trees[1]):find("./library/mpengine.lua\n", 1, true), files(trees[1]))
    assert.equal("", shell(("diff -r %s %s"):format(trees[1], trees[2])))
    assert.truthy(read_file(trees[1] .. "/luarc.json"):find('["library"]', 1, true))
  end)

  it("names the Lua of the build to pkg-config, if that has a name", function()
    local expected = { [""] = ", lua5.4, libuv", ["LUA_PC=lua-5.5"] = ", lua-5.5, libuv", ["LUA_PC="] = ", libuv" }
    for settings, names in pairs(expected) do
      local text = read_file(install(settings) .. "/usr/local/lib/pkgconfig/mpengine-lua.pc")
      assert.truthy(text:find("\nRequires: mpengine = [%d.]+" .. names:gsub("%p", "%%%0") .. "\n"), text)
    end
  end)

  it("says the same of the annotations as the sources", function()
    local root = install "PREFIX=/usr"
    assert.equal(source("gdb/mpengine.py"), read_file(root .. "/usr/share/mpengine/gdb/mpengine.py"))
    assert.equal(read_file(support.root .. "/bindings/library/mpengine.lua"),
      read_file(root .. "/usr/share/mpengine/library/mpengine.lua"))
  end)
end)

describe("make dist", function()
  it("gives the same bytes twice, whatever the umask, and all that is committed", function()
    if not os.execute(("cd %s && git rev-parse -q --verify HEAD >/dev/null 2>&1"):format(quote(support.root))) then
      return pending "this tree is no git repository"
    end
    local dir = shell "mktemp -d":gsub("\n", "")
    local archive = dir .. "/" .. shell(quote(support.command) .. " -v"):match "mpengine [%d.]+":gsub(" ", "-")
    local function sum(umask)
      shell(("umask %s; make -s -C %s dist BUILD=%s 2>/dev/null"):format(umask, quote(support.root), dir))
      return shell(("sha256sum <%s.tar.gz"):format(archive))
    end
    local first = sum "022"
    assert.equal(first, sum "077")
    local listed = shell(("tar tzf %s.tar.gz | sed -n 's|^[^/]*/||; /[^/]$/p' | LC_ALL=C sort"):format(archive))
    assert.equal(shell(("git -C %s ls-tree -r --name-only HEAD | LC_ALL=C sort"):format(quote(support.root))), listed)
    shell("rm -r " .. quote(dir))
  end)
end)

describe("the packages", function()
  local version = shell(quote(support.command) .. " -v"):match "mpengine ([%d.]+)"

  it("have the version of the header", function()
    local rockspec = read_file(("%s/mpengine-%s-1.rockspec"):format(support.root, version))
    assert.truthy(rockspec:find(('version = "%s-1"'):format(version), 1, true))
    assert.truthy(rockspec:find(("mpengine-%s.tar.gz"):format(version), 1, true))
    assert.equal(version, read_file(support.root .. "/debian/changelog"):match "^mpengine %(([%d.]+)%-")
  end)
end)
