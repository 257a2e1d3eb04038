import Foundation
import GRDB
import Testing

@testable import LocalBroker

/// The data directory: who may use it, and what is done with what is found in it.
@Suite struct SQLiteStorageTests {
    private func path(_ directory: String) -> String { directory + "/" + SQLiteStorage.fileName }

    private func fill(_ directory: String, _ count: Int) async throws {
        let storage = try await SQLiteStorage.open(directory: directory)
        let record = String(repeating: "x", count: 200)
        try await storage.write(
            (0..<count).map { .put(.retained("topic/\(10_000 + $0)", record, stamp: UInt64($0))) },
            isDurable: true
        )
        try await storage.close()
    }

    @Test func whatWasWrittenIsThereWhenItIsOpenedAgain() async throws {
        try await withDirectory { directory in
            try await self.fill(directory, 5)
            let storage = try await SQLiteStorage.open(directory: directory)
            #expect(try await storage.all(.retained).count == 5)
            #expect(storage.damage == nil)
        }
    }

    @Test func aDirectoryThatIsNotThereIsMade() async throws {
        try await withDirectory { directory in
            try await self.fill(directory + "/new", 1)
            #expect(FileManager.default.fileExists(atPath: self.path(directory + "/new")))
        }
    }

    @Test func aDirectoryInUseIsRefused() async throws {
        try await withDirectory { directory in
            let storage = try await SQLiteStorage.open(directory: directory)
            await #expect(throws: StorageError.inUse(path: directory)) {
                try await SQLiteStorage.open(directory: directory)
            }
            try await storage.close()
        }
    }

    @Test func whatIsNoDirectoryIsRefused() async throws {
        try await withDirectory { directory in
            let path = directory + "/file"
            #expect(FileManager.default.createFile(atPath: path, contents: Data("x".utf8)))
            let error = await #expect(throws: StorageError.self) { try await SQLiteStorage.open(directory: path) }
            #expect(error?.description.contains("no directory") == true)
            await #expect(throws: StorageError.self) { try await SQLiteStorage.open(directory: directory + "/a/b") }
        }
    }

    @Test func aLaterFormatIsRefusedAndLeftAlone() async throws {
        try await withDirectory { directory in
            try await self.fill(directory, 1)
            let queue = try DatabaseQueue(path: self.path(directory))
            try await queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA user_version = 99") }
            try queue.close()
            await #expect(
                throws: StorageError.newerFormat(
                    path: self.path(directory),
                    found: 99,
                    known: SQLiteSchema.version
                )
            ) {
                try await SQLiteStorage.open(directory: directory)
            }
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: directory).allSatisfy { !$0.contains("damaged") }
            )
        }
    }

    @Test func anEarlierFormatIsBroughtForward() async throws {
        try await withDirectory { directory in
            let storage = try await SQLiteStorage.open(directory: directory)
            var subscription = Stored.Subscription(session: 1, filter: [97], options: 1, identifier: 2, share: 3)
            var delivery = Stored.Delivery.test(message: 5)
            delivery.size = 3
            let message = Stored.Message(number: 5, record: [1, 2, 3])
            try await storage.write(
                [.put(.subscription(subscription)), .put(.message(message)), .put(.delivery(delivery))],
                isDurable: true
            )
            try await storage.close()
            let queue = try DatabaseQueue(path: self.path(directory))
            try await queue.writeWithoutTransaction {
                try $0.execute(
                    sql: """
                        ALTER TABLE subscription DROP COLUMN retained_from; ALTER TABLE delivery DROP COLUMN size;
                        PRAGMA user_version = 1
                        """
                )
            }
            try queue.close()
            let again = try await SQLiteStorage.open(directory: directory)
            #expect(try await again.all(.subscriptions) == [.subscription(subscription)])
            #expect(try await again.all(.deliveries) == [.delivery(delivery)])
            subscription.retainedFrom = []
            try await again.write([.put(.subscription(subscription))], isDurable: true)
            #expect(try await again.all(.subscriptions) == [.subscription(subscription)])
            try await again.close()
        }
    }

    @Test func anotherProgramsDatabaseIsRefused() async throws {
        try await withDirectory { directory in
            let queue = try DatabaseQueue(path: self.path(directory))
            try await queue.writeWithoutTransaction { try $0.execute(sql: "CREATE TABLE theirs (a)") }
            try queue.close()
            let error = await #expect(throws: StorageError.self) { try await SQLiteStorage.open(directory: directory) }
            #expect(error?.description.contains("another program") == true)
        }
    }

    @Test func aDurableWriteIsSynchronisedAndAnotherIsNot() async throws {
        try await withDirectory { directory in
            let storage = try await SQLiteStorage.open(directory: directory)
            #expect(try await storage.synchronous() == 2)
            try await storage.write([.put(.retained("t", "x", stamp: 1))], isDurable: false)
            #expect(try await storage.synchronous() == 1)
            try await storage.write([], isDurable: true)
            #expect(try await storage.synchronous() == 2)
            try await storage.close()
        }
    }

    // MARK: Damage

    private func overwrite(_ path: String, at offset: UInt64, count: Int) throws {
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        try file.seek(toOffset: offset)
        try file.write(contentsOf: Data(repeating: 0xa5, count: count))
        try file.close()
    }

    @Test func aDatabaseThatIsNoneIsSetAside() async throws {
        try await withDirectory { directory in
            try await self.fill(directory, 3)
            try self.overwrite(self.path(directory), at: 0, count: 4096)
            let storage = try await SQLiteStorage.open(directory: directory)
            let damage = try #require(storage.damage)
            #expect(damage.kept == 0)
            #expect(damage.path.hasPrefix(self.path(directory) + ".damaged-"))
            #expect(FileManager.default.fileExists(atPath: damage.path))
            try await storage.write([.put(.retained("t", "x", stamp: 1))], isDurable: true)
            try await storage.close()
        }
    }

    @Test func whatCanBeReadOfADamagedDatabaseIsKept() async throws {
        try await withDirectory { directory in
            let count = 2000
            try await self.fill(directory, count)
            let size = try #require(
                try FileManager.default.attributesOfItem(atPath: self.path(directory))[.size] as? Int
            )
            try self.overwrite(self.path(directory), at: UInt64(size / 2 / 4096 * 4096), count: 4096)
            let storage = try await SQLiteStorage.open(directory: directory)
            let damage = try #require(storage.damage)
            let kept = try await storage.all(.retained)
            #expect(damage.kept == kept.count)
            #expect(kept.count > count * 9 / 10)
            #expect(kept.count < count)
            try await storage.close()
            let again = try await SQLiteStorage.open(directory: directory)
            #expect(again.damage == nil)
            #expect(try await again.all(.retained) == kept)
            try await again.close()
        }
    }

    @Test func aReplacementThatWasCutShortIsFinished() async throws {
        try await withDirectory { directory in
            try await self.fill(directory, 3)
            // The new database was whole, and the old one had been renamed in part.
            try FileManager.default.moveItem(atPath: self.path(directory), toPath: self.path(directory) + ".new")
            try Data("x".utf8).write(to: URL(fileURLWithPath: self.path(directory) + "-wal"))
            let storage = try await SQLiteStorage.open(directory: directory)
            #expect(storage.damage?.kept == 3)
            #expect(try await storage.all(.retained).count == 3)
            try await storage.close()
            let again = try await SQLiteStorage.open(directory: directory)
            #expect(again.damage == nil)
            #expect(try await again.all(.retained).count == 3)
            try await again.close()
        }
    }

    @Test func aReplacementThatHadOnlyBegunBeginsAgain() async throws {
        try await withDirectory { directory in
            try await self.fill(directory, 3)
            try FileManager.default.copyItem(atPath: self.path(directory), toPath: self.path(directory) + ".draft")
            try self.overwrite(self.path(directory), at: 0, count: 4096)
            let storage = try await SQLiteStorage.open(directory: directory)
            #expect(storage.damage?.kept == 0)
            try await storage.close()
            #expect(!FileManager.default.fileExists(atPath: self.path(directory) + ".draft"))
        }
    }

    @Test func aMessageThatNobodyIsToGetIsNotKeptOfADamagedDatabase() async throws {
        try await withDirectory { directory in
            try await self.fill(directory, 2000)
            let intact = try await SQLiteStorage.open(directory: directory)
            let messages = (UInt64(1)...2).map { Stored.Message(number: $0, record: [1]) }
            try await intact.write(
                messages.map { .put(.message($0)) } + [.put(.delivery(.test(message: 1)))],
                isDurable: true
            )
            try await intact.close()
            let attributes = try FileManager.default.attributesOfItem(atPath: self.path(directory))
            let size = try #require(attributes[.size] as? Int)
            try self.overwrite(self.path(directory), at: UInt64(size / 2 / 4096 * 4096), count: 4096)
            let storage = try await SQLiteStorage.open(directory: directory)
            #expect(storage.damage != nil)
            #expect(try await storage.all(.messages) == [.message(messages[0])])
            try await storage.close()
        }
    }

    @Test func aFullFileSystemIsSaidToBeFullAndWorksAgainWithRoom() async throws {
        try await withDirectory { directory in
            let storage = try await SQLiteStorage.open(directory: directory)
            try await storage.limitPages(to: 20)
            let large = StoredValue.retained("t", String(repeating: "x", count: 200_000), stamp: 1)
            await #expect(throws: StorageError.full(reason: "the file system is full")) {
                try await storage.write([.put(.retained("a", "x", stamp: 1)), .put(large)], isDurable: true)
            }
            #expect(try await storage.all(.retained).isEmpty)
            try await storage.limitPages(to: 10_000)
            try await storage.write([.put(large)], isDurable: true)
            #expect(try await storage.all(.retained) == [large])
            try await storage.close()
        }
    }
}

extension SQLiteStorage {
    fileprivate func synchronous() async throws -> Int? {
        try await self.inDatabase { try Int.fetchOne($0, sql: "PRAGMA synchronous") }
    }

    fileprivate func limitPages(to count: Int) async throws {
        try await self.inDatabase { try $0.execute(sql: "PRAGMA max_page_count = \(count)") }
    }
}
