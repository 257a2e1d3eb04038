import Foundation
import JWTKit
import Protocol
import Testing

@testable import LocalBroker

/// A directory with files for one test.
struct TestFiles {
    let directory: String

    /// Runs a test with a directory and removes it.
    static func run(_ body: (TestFiles) async throws -> Void) async throws {
        let path = NSTemporaryDirectory() + "dunlin-\(UUID().uuidString)/"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        // What is left of it is the system's to remove.
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await body(TestFiles(directory: path))
    }

    @discardableResult
    func write(_ name: String, _ text: String) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: self.directory + name), options: .atomic)
        return self.directory + name
    }

    /// A password file of users whose password is their name and "pw".
    @discardableResult
    func writePasswords(_ users: String...) throws -> String {
        try self.write("passwords", users.map { "\($0):\(Self.hash("\($0)pw"))\n" }.joined())
    }

    static func hash(_ password: String) -> PasswordHash { PasswordHash.make(password: password, iterations: 4096) }
}

extension BrokerConfiguration {
    /// A test's configuration with these files.
    static func access(
        passwords: String? = nil,
        rules: String? = nil,
        _ configure: (inout BrokerConfiguration) -> Void = { _ in }
    ) -> BrokerConfiguration {
        .test { configuration in
            configuration.access.passwordFile = passwords
            configuration.access.aclFile = rules
            configure(&configuration)
        }
    }
}

extension TestBroker {
    /// Sends a CONNECT and returns the answer.
    func answer(_ connect: Connect) async throws -> (TestClient, ConnAck) {
        let client = try await self.client(connect.version)
        try await client.send(.connect(connect))
        guard case .connAck(let answer) = try await client.next() else { throw TestClient.Failure.closed }
        return (client, answer)
    }

    /// A client of a user whose password is its name and "pw".
    func user(
        _ name: String,
        id: String? = nil,
        _ version: ProtocolVersion = .v5,
        keeps: Bool = false,
        will: Will? = nil
    ) async throws -> TestClient {
        var connect = Connect.test(id ?? name, version, keeps: keeps, will: will)
        connect.userName = name
        connect.password = Array("\(name)pw".utf8)
        return try await self.connected(connect).0
    }

    /// CONNECT with credentials is refused, and the connection closed.
    func expectRefused(
        _ connect: Connect,
        _ reason: ReasonCode,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let (client, answer) = try await self.answer(connect)
        let expected = connect.version == .v5 ? reason : ReasonCode(connectReturnCode: reason.connectReturnCode)
        #expect(answer.reason == expected, sourceLocation: sourceLocation)
        #expect(!answer.sessionPresent, sourceLocation: sourceLocation)
        try await client.expectClosed(sourceLocation: sourceLocation)
    }
}

extension TestClient {
    /// CONNECT was accepted.
    func expectAccepted(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        guard case .connAck(let answer) = try await self.next() else { throw Failure.closed }
        #expect(answer.reason == .success, sourceLocation: sourceLocation)
    }

    /// The next packet refuses a message in MQTT 5, and acknowledges it before.
    func expectDenied(
        _ kind: AckKind,
        _ packetID: UInt16,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        // The reason string is for people.
        guard case .ack(let ack)? = try await self.next() else { throw Failure.closed }
        let reason: ReasonCode = self.version == .v5 ? .notAuthorized : .success
        #expect(
            ack.kind == kind && ack.packetID == packetID && ack.reason == reason,
            sourceLocation: sourceLocation
        )
    }
}

extension Connect {
    static func credentials(
        _ user: String?,
        _ password: String?,
        id: String = "c",
        _ version: ProtocolVersion = .v5
    ) -> Connect {
        var connect = Connect.test(id, version)
        connect.userName = user
        connect.password = password.map { Array($0.utf8) }
        return connect
    }
}
