import Testing

@testable import LocalBroker

@Suite("Rules of an ACL file")
struct ACLFileTests {
    private func rules(
        _ text: String,
        client: String = "c1",
        user: String? = nil,
        grant: TopicGrant? = nil
    ) throws -> TopicRules {
        try ACLFile(text).rules(clientID: client, userName: user, grant: grant)
    }

    private func publishes(_ rules: TopicRules, _ topic: String) -> Bool {
        Array(topic.utf8).withUnsafeBytes { rules.allowsPublish(to: $0) }
    }

    private func subscribes(_ rules: TopicRules, _ filter: String) -> Bool {
        rules.allowsSubscription(to: TopicRules.matchingPart(of: Array(filter.utf8)))
    }

    @Test("without a rule everything is denied")
    func empty() throws {
        let rules = try self.rules("# nothing\n\n")
        #expect(!self.publishes(rules, "a"))
        #expect(!self.subscribes(rules, "a"))
    }

    @Test("read is to subscribe, write to publish, and without a word it is both")
    func rights() throws {
        let rules = try self.rules("topic read r/#\ntopic write w/#\ntopic readwrite b/#\ntopic c/#\n")
        #expect([("r/a"), ("w/a"), ("b/a"), ("c/a")].map { self.publishes(rules, $0) } == [false, true, true, true])
        #expect([("r/a"), ("w/a"), ("b/a"), ("c/a")].map { self.subscribes(rules, $0) } == [true, false, true, true])
    }

    @Test("rules before the first section are for clients without a user name")
    func sections() throws {
        let text = "topic a\nuser alice\ntopic b\nclientid c1\ntopic c\nuser bob\ntopic d\n"
        func topics(_ user: String?, _ client: String) throws -> [String] {
            let rules = try self.rules(text, client: client, user: user)
            return ["a", "b", "c", "d"].filter { self.publishes(rules, $0) }
        }
        #expect(try topics(nil, "c9") == ["a"])
        #expect(try topics("alice", "c9") == ["b"])
        #expect(try topics("alice", "c1") == ["b", "c"])
        #expect(try topics(nil, "c1") == ["a", "c"])
        #expect(try topics("bob", "c9") == ["d"])
        #expect(try topics("eve", "c9") == [])
    }

    @Test("what a rule denies is denied, before or after a rule that allows it")
    func deny() throws {
        for text in ["topic a/#\ntopic deny a/b/#\n", "topic deny a/b/#\ntopic a/#\n"] {
            let rules = try self.rules(text)
            #expect(self.publishes(rules, "a/c"))
            #expect(!self.publishes(rules, "a/b"))
            #expect(!self.publishes(rules, "a/b/c"))
            #expect(self.subscribes(rules, "a/c/#"))
            #expect(!self.subscribes(rules, "a/b/c"))
            #expect(!self.subscribes(rules, "a/#"))
            #expect(!self.subscribes(rules, "a/+"))
        }
    }

    @Test("a subscription must be covered wholly")
    func covered() throws {
        let rules = try self.rules("topic read a/+\n")
        #expect(self.subscribes(rules, "a/b"))
        #expect(self.subscribes(rules, "a/+"))
        #expect(!self.subscribes(rules, "a/#"))
        #expect(!self.subscribes(rules, "#"))
        #expect(!self.subscribes(rules, "+/b"))
    }

    @Test("of a shared subscription the filter behind the group counts")
    func shared() throws {
        let rules = try self.rules("topic read a/#\n")
        #expect(self.subscribes(rules, "$share/g/a/b"))
        #expect(!self.subscribes(rules, "$share/g/b"))
        #expect(!self.subscribes(rules, "$share/a/b"))
    }

    @Test("a pattern is for every client, with its own names")
    func patterns() throws {
        let text = "user alice\npattern write %u/%c/x%c\npattern read all/#\n"
        let rules = try self.rules(text, client: "c1", user: "alice")
        #expect(self.publishes(rules, "alice/c1/xc1"))
        #expect(!self.publishes(rules, "alice/c2/xc2"))
        let bob = try self.rules(text, client: "c2", user: "bob")
        #expect(self.publishes(bob, "bob/c2/xc2"))
        #expect(self.subscribes(bob, "all/a"))
    }

    @Test("a name that could reach beyond its level makes no rule", arguments: ["+", "#", "a/b", "a+", "/", ""])
    func reaching(name: String) throws {
        let rules = try self.rules("pattern d/%c/#\npattern u/%u\n", client: name, user: name)
        for topic in ["d/a/b", "d/a", "d//x", "d/+/b", "u/a", "u/a/b", "d/\(name)", "u/\(name)"] {
            #expect(!self.publishes(rules, topic))
        }
        #expect(!self.subscribes(rules, "d/+/#"))
        #expect(!self.subscribes(rules, "d/\(name)/#"))
    }

    @Test("a name that begins with $ does not lead to a topic of the broker's own")
    func dollar() throws {
        let rules = try self.rules("pattern %c/#\npattern a/%c\n", client: "$SYS")
        #expect(!self.subscribes(rules, "$SYS/#"))
        #expect(self.publishes(rules, "a/$SYS"))
    }

    @Test("a pattern with a user name is not for clients without one")
    func noUser() throws {
        let rules = try self.rules("pattern u/%u\npattern x%u/a\n")
        #expect(!self.publishes(rules, "u/"))
        #expect(!self.publishes(rules, "x/a"))
    }

    @Test("a pattern that denies is for every name where the client's own could reach beyond")
    func denyingPattern() throws {
        let text = "pattern a/#\npattern deny a/%c/secret\n"
        let rules = try self.rules(text, client: "c1")
        #expect(!self.publishes(rules, "a/c1/secret"))
        #expect(self.publishes(rules, "a/c2/secret"))
        let other = try self.rules(text, client: "c/1")
        #expect(!self.publishes(other, "a/c/secret"))
        #expect(!self.publishes(other, "a/c2/secret"))
        #expect(self.publishes(other, "a/c2/open"))
    }

    @Test("a wildcard reaches no topic that begins with $")
    func system() throws {
        let rules = try self.rules("topic #\n")
        #expect(!self.subscribes(rules, "$SYS/#"))
        #expect(self.subscribes(rules, "#"))
        #expect(try self.subscribes(self.rules("topic read $SYS/#\n"), "$SYS/broker/+"))
    }

    @Test("a filter may have spaces, and a name")
    func spaces() throws {
        let rules = try self.rules("user two words \n  topic\tread  living room/+ \n", user: "two words")
        #expect(self.subscribes(rules, "living room/lamp"))
    }

    @Test("a right that is misspelt is told, with those that there are")
    func misspelt() {
        #expect {
            try ACLFile("topic #\ntopic dney secret/#\n")
        } throws: { error in
            ["line 2", "'dney'", "'deny'", "spaces"].allSatisfy { "\(error)".contains($0) }
        }
    }

    @Test("a filter that is a right's name needs its right written out")
    func rightAsFilter() throws {
        let rules = try self.rules("topic write read\n")
        #expect(self.publishes(rules, "read"))
        #expect(!self.subscribes(rules, "read"))
    }

    @Test("rights that come with the client replace what is allowed, not what is denied")
    func grant() throws {
        let text = "topic a/#\npattern deny d/#\n"
        let grant = TopicGrant(publish: ["d/#", "p/%c/#"], subscribe: ["s/%u"])
        let rules = try self.rules(text, client: "c1", user: "alice", grant: grant)
        #expect(!self.publishes(rules, "a/x"))
        #expect(!self.publishes(rules, "d/x"))
        #expect(self.publishes(rules, "p/c1/x"))
        #expect(self.subscribes(rules, "s/alice"))
        #expect(!self.subscribes(rules, "p/c1/x"))
    }

    @Test(
        "what is wrong is told with its line",
        arguments: [
            "topik a", "topic", "topic read a/#/b", "pattern", "pattern %c/#/a", "user", "clientid", "topic $share/g/a",
            "pattern a+/%c", "topic dney a/#", "topic living room/+", "topic deny", "topic read", "pattern dney a/%c",
            "pattern write",
        ]
    )
    func wrongLine(line: String) {
        #expect { try ACLFile("# one\ntopic a\n\(line)\ntopic b\n") } throws: { ($0 as? AccessFileError)?.line == 3 }
    }
}
